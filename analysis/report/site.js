// The claims of a page by their words and their verdict.
"use strict";
const filter = document.querySelector(".filter");
if (filter) {
  const words = document.getElementById("words"), verdict = document.getElementById("verdict");
  const claims = [...document.querySelectorAll("article.claim")];
  const show = () => {
    const wanted = words.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const claim of claims) {
      const text = `${claim.dataset.id} ${claim.textContent}`.toLowerCase();
      const fits = (!verdict.value || claim.dataset.verdict === verdict.value) && wanted.every((word) => text.includes(word));
      claim.hidden = !fits;
      count += fits;
    }
    for (const section of document.querySelectorAll("section.chapter"))
      section.hidden = !section.querySelector("article.claim:not([hidden])");
    document.getElementById("shown").textContent = count === claims.length ? "" : `${count} of ${claims.length} claims`;
  };
  words.addEventListener("input", show);
  verdict.addEventListener("change", show);
  filter.addEventListener("submit", (event) => event.preventDefault());
}
