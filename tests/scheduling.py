"""Which worker runs which test: a file stays on one worker, and the crash of a worker costs one test."""

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class CrashSafeScheduling(LoadFileScheduling):
    """xdist's `--dist=loadfile`, in which a run goes on after a worker has crashed.

    xdist 3.8 gives the others each file that the crashed worker ever had: the crashed test runs and crashes again, and
    a file of which no test is left keeps the worker that gets it waiting for ever.
    """

    def remove_node(self, node: WorkerController) -> str | None:
        """Give what the worker has not run to the others. Returns the test that crashed it, if it was running one."""
        files: dict[str, dict[str, bool]] = self.assigned_work.pop(node)
        crashed = next((test for tests in files.values() for test, done in tests.items() if not done), None)
        for file, tests in files.items():
            if crashed in tests:
                tests[crashed] = True
            if not all(tests.values()):
                self.workqueue[file] = tests
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed
