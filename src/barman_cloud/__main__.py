"""``python -m barman_cloud``: the umbrella command, for where the installed program isn't in PATH."""

from barman_cloud.cli.start import umbrella

if __name__ == "__main__":
    umbrella()
