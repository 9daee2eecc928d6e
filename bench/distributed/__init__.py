"""Loads that several machines offer together. Locust's master and workers carry the plan, the clocks and the results;
the load itself comes from this project's engine, a process of its own beside each worker.

`run` and `worker` are the two ends, plain processes with a Locust process each (`python -m bench.distributed`) that
passes on messages and knows nothing of loads: gevent, which patches what it finds, stays in there. Messages are
dictionaries whose "say" names what they are:

| say | from | with | means |
| --- | --- | --- | --- |
| `hello` | worker | `wirebench`, `locust`, `host` | here I am, of these versions |
| `refused` | master | `message` | you cannot take part |
| `part` | master | `spec`, `start_ns` | a LoadSpec to connect for; begin then, if the start is known already |
| `ready` | worker | | the connections of the part stand |
| `start` | master | `start_ns` | begin then, in nanoseconds of the worker's own CLOCK_MONOTONIC |
| `result` | worker | `result`, `memory`, `host_load`, `margin_ns` | what a load process gave for a part |
| `failed` | worker | `message`, `is_target` | the part cannot be done |
| `stop` | master | | end the load, report what there is |
| `stopped` | worker | | the load was ended, and everything of it is reported |
| `done` | master | | the run is over |

Seconds of the load (`bench.distributed.seconds`) go with Locust's own reports, every three seconds; what is left of
them goes as `seconds` with the next message.
"""
