"""Runs commands in one process. Each line of standard input is a JSON list of arguments; the answer is a line with
[status, standard output, standard error]."""

import json
import sys
import traceback

from benchmarks.tiny_run import Result, command


def main():
    answers = sys.stdout
    for line in sys.stdin:
        sys.modules.pop("config_config", None)  # a new process would not have these
        try:
            result = command(*json.loads(line))
        except BaseException:
            result = Result(1, "", traceback.format_exc())
        answers.write(json.dumps(result) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
