"""A client of the existing scheduler's contract, made from its .proto by grpcio alone.

Usage: old_client.py ADDRESS PROTO_DIRECTORY
Prints one line for each step, so that the test can compare them.
"""

import sys
import tempfile
import time

import grpc
from grpc_tools import protoc

address, protos = sys.argv[1:]
with tempfile.TemporaryDirectory() as generated:
    code = protoc.main([
        "protoc",
        f"-I{protos}",
        f"--python_out={generated}",
        f"--grpc_python_out={generated}",
        f"{protos}/jobscheduler.proto",
    ])
    assert code == 0, "protoc failed"
    sys.path.insert(0, generated)
    import jobscheduler_pb2 as messages
    import jobscheduler_pb2_grpc as services


def call(method, request):
    """As the scheduler does it: one connection a call, one second for all of it."""
    started = time.monotonic()
    with grpc.insecure_channel(address) as channel:
        worker = services.WorkerStub(channel)
        try:
            return getattr(worker, method)(request, timeout=1.0)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        finally:
            took = time.monotonic() - started
            assert took < 0.9, f"{method} took {took:.3f} s"


def wait(job):
    while not (answer := call("QueryJob", messages.QueryJobReq(jobID=job))).done:
        time.sleep(0.01)
    return answer


def tell(step, answer):
    if isinstance(answer, str):
        print(step, answer)
    elif isinstance(answer, messages.QueryJobRes):
        print(step, f"done={answer.done} error={answer.error} text={answer.errorText!r}")
    else:
        print(step, "ok")


for command, path in [("true", "script.sh"), ("missing", "x"), ("/missing", "x"), ("", "x")]:
    started = call("StartJob", messages.StartJobReq(command=command, path=path))
    tell(f"start {command!r}:", started)
    if not isinstance(started, str):
        assert len(started.jobID) == 36
        tell(f"end of {command!r}:", wait(started.jobID))
for command in ["sleep", "stubborn"]:
    job = call("StartJob", messages.StartJobReq(command=command, path="script.sh")).jobID
    tell(f"query {command!r}:", call("QueryJob", messages.QueryJobReq(jobID=job)))
    tell(f"stop {command!r}:", call("StopJob", messages.StopJobReq(jobID=job)))
    tell(f"end of {command!r}:", wait(job))
    tell(f"stop {command!r} again:", call("StopJob", messages.StopJobReq(jobID=job)))
for job in ["", "unknown", "0e8c8ab4-6b4e-4b0e-9f6e-1f1f1f1f1f1f"]:
    tell(f"query {job!r}:", call("QueryJob", messages.QueryJobReq(jobID=job)))
    tell(f"stop {job!r}:", call("StopJob", messages.StopJobReq(jobID=job)))
