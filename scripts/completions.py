"""Write the completion scripts as the directories of the shells want them: ``completions``, which packages install.

bash and fish look for a file with the name of the command that is completed, so each program has one that loads the
first; zsh reads in the first line of a file which commands it is for. ``python -m scripts.completions`` writes them;
``--check`` only tells (exit 1) whether they are up to date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from barman_cloud.cli.commands import PROGRAMS
from barman_cloud.cli.completion import script

DIRECTORY = Path(__file__).parent.parent / "completions"
BASH = "bash-completion/completions"
ZSH = "zsh/site-functions"
FISH = "fish/vendor_completions.d"
"""Below ``share``."""
_BASH_OTHER = '# bash completion for {name}\n. "${{BASH_SOURCE[0]%/*}}/barman-cloud"\n'
_FISH_OTHER = "# fish completion for {name}\nsource (status dirname)/barman-cloud.fish\n"


def scripts() -> dict[str, str]:
    """Return every file by its path below ``share``."""
    made = {
        f"{BASH}/barman-cloud": script("bash"),
        f"{ZSH}/_barman_cloud": script("zsh"),
        f"{FISH}/barman-cloud.fish": script("fish"),
    }
    for name in (f"barman-cloud-{name}" for name in PROGRAMS):
        made[f"{BASH}/{name}"] = _BASH_OTHER.format(name=name)
        made[f"{FISH}/{name}.fish"] = _FISH_OTHER.format(name=name)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a script is out of date")
    check = parser.parse_args().check
    made = scripts()
    there = {str(path.relative_to(DIRECTORY)): path for path in DIRECTORY.rglob("*") if path.is_file()}
    stale = [name for name, text in made.items() if name not in there or there[name].read_text() != text]
    left = sorted(there.keys() - made.keys())
    if check:
        if stale or left:
            print(f"out of date, run 'make docs': {', '.join([*stale, *left])}", file=sys.stderr)
        return 1 if stale or left else 0
    for name in stale:
        (DIRECTORY / name).parent.mkdir(parents=True, exist_ok=True)
        (DIRECTORY / name).write_text(made[name])
    for name in left:
        there[name].unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
