#!/usr/bin/env python3
"""A client of `stockade.v1`: start a script, follow its output, read its outcome.

    pip install grpcio grpcio-tools
    examples/client.py examples/hello.sh [HOST:PORT]
"""

import pathlib
import sys

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "proto"))
v1, services = grpc.protos_and_services("stockade/v1/worker.proto")


def main(script: str, address: str = "localhost:50000") -> int:
    request = v1.StartJobRequest(
        script=pathlib.Path(script).read_bytes(),
        args=["client.py"],
        limits=v1.Limits(memory_bytes=64 << 20, wall_time_ms=10_000),
        labels={"example": "client"},
    )
    with grpc.insecure_channel(address) as channel:
        worker = services.WorkerStub(channel)
        job = worker.StartJob(request, timeout=5).job
        print("job", job.id, file=sys.stderr)
        # The stream is woken by output and ends with the job: there is nothing to poll.
        for answer in worker.StreamOutput(v1.StreamOutputRequest(job_id=job.id, follow=True)):
            match answer.WhichOneof("part"):
                case "chunk":
                    target = sys.stderr if answer.chunk.stream == v1.STDERR else sys.stdout
                    target.buffer.write(answer.chunk.data)
                    target.flush()
                case "gap":
                    print(f"bytes {answer.gap.to - getattr(answer.gap, 'from')} not kept", file=sys.stderr)
                case "end":
                    job = answer.end.job
    print(v1.Cause.Name(job.cause), job.error_text, f"{job.usage.wall_ms} ms", file=sys.stderr)
    return 0 if job.cause == v1.EXITED and job.exit_code == 0 else 1


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
