"""A process that says again what it is told, over the line of the Locust processes."""

from bench.distributed.line import standard_line


def main() -> None:
    line = standard_line()
    for told in line.told():
        line.say("echo", **told)


if __name__ == "__main__":
    main()
