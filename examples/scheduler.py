#!/usr/bin/env python3
"""A client of the `jobscheduler` contract, as a scheduler is: start a script, ask until it is done.

    pip install grpcio grpcio-tools
    examples/scheduler.py [HOST:PORT] COMMAND SCRIPT        # such as: localhost:50000 bash report.sh

SCRIPT is a path in the worker's scripts folder (`[worker] scripts_dir` in config.toml).
"""

import pathlib
import sys
import time

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "proto"))
messages, services = grpc.protos_and_services("jobscheduler/jobscheduler.proto")


def main() -> int:
    *address, command, path = sys.argv[1:]
    with grpc.insecure_channel(address[0] if address else "localhost:50000") as channel:
        worker = services.WorkerStub(channel)
        try:
            # A scheduler has many workers to ask: no call may take longer than a second.
            job = worker.StartJob(messages.StartJobReq(command=command, path=path), timeout=1)
            print("job", job.jobID)
            query = messages.QueryJobReq(jobID=job.jobID)
            while not (answer := worker.QueryJob(query, timeout=1)).done:
                time.sleep(0.2)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    print("failed: " + answer.errorText if answer.error else "succeeded")
    return int(answer.error)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main())
