"""MLX where a process may open fewer files than mlx-lm asks for when it is imported."""

import subprocess
import sys

FEW = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from wizloop.backends.mlx import load
print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.setrlimit.__module__)
"""


def test_a_low_limit_of_open_files_is_kept_and_no_error() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", FEW], capture_output=True, text=True, check=True)
    assert done.stdout == "(256, 256) resource\n"
