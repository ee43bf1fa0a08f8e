import subprocess
import sys

SCRIPT = """
import os, threading
from barman_cloud.backup.priority import lower_priority
before = os.getpriority(os.PRIO_PROCESS, 0)
lower_priority(3)
seen = []
thread = threading.Thread(target=lambda: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
thread.start()
thread.join()
print(seen[0] == min(before + 3, 19), os.popen(f"ionice -p {os.getpid()}").read().strip())
"""


def test_threads_that_start_later_run_behind_everything_else() -> None:
    shown = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout.split()
    assert shown[0] == "True"
    assert shown[1:] in (["idle"], [])
