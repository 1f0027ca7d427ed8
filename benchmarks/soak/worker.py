"""Runs commands of standard input, a JSON list of arguments a line, in one process; tells how each ended, [status,
standard output, standard error]."""

import json
import sys
import traceback

from benchmarks.tiny_run import Result, command


def main():
    answers = sys.stdout
    for line in sys.stdin:
        sys.modules.pop("config_config", None)  # what another process would not have
        try:
            result = command(*json.loads(line))
        except BaseException:
            result = Result(1, "", traceback.format_exc())
        answers.write(json.dumps(result) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
