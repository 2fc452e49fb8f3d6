"""However many jobs ran, nothing of them stays."""

from harness import Job, Remains, equal, run


def test_50_jobs_one_after_another():
    # The first makes what a worker keeps, such as the cgroup above all jobs.
    equal(run("true").status, 0, "the first job")
    remains = Remains()
    for number in range(50):
        result = run("sh", "-c", f"sleep 100 & echo {number} | tee file; exit {number}")
        equal((result.status, result.stdout), (number, f"{number}\n".encode()), result)
    remains.check()


def test_20_jobs_at_once():
    equal(run("true").status, 0, "the first job")
    remains = Remains()
    jobs = [Job("sh", "-c", f"sleep 1; echo {number}; exit {number}") for number in range(20)]
    for number, job in enumerate(jobs):
        result = job.end()
        equal((result.status, result.stdout), (number, f"{number}\n".encode()), result)
    remains.check()


def test_a_failed_start_leaves_nothing():
    equal(run("true").status, 0, "the first job")
    remains = Remains()
    for _ in range(5):
        equal(run("no-such-program").status, 127, "a program that is not there")
    remains.check()
