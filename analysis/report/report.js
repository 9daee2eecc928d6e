// Tables can be sorted, each part by itself, by a click or a key on a column's head; without this script they are in the order of the suite.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const parts = [...table.tBodies].map((body) => [body, [...body.rows].filter((row) => !row.matches(".part"))]);
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      for (const [body, rows] of parts) {
        body.append(...[...rows].sort((a, b) => compare(a.cells[column], b.cells[column], descending)));
      }
    });
  });
}

// What was not measured comes last in both directions.
function compare(a, b, descending) {
  const [x, y] = [a.dataset.value, b.dataset.value];
  if (x === undefined) return (descending ? -1 : 1) * a.textContent.localeCompare(b.textContent);
  if (x === "" || y === "") return (x === "") - (y === "");
  return descending ? y - x : x - y;
}
