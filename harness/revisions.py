"""Revisions: commits of the user's repository checked out side by side, and gone again afterwards."""

import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.conditions import Tree
from harness.errors import UserError

NO_HOOKS = ("-c", "core.hooksPath=/dev/null")  # a checkout for measuring is not one that the user made


def top() -> Path | None:
    """Return the top of the git repository that holds the current folder, or None."""
    found = git("rev-parse", "--show-toplevel")
    return Path(found).resolve() if found else None


def commit_of(reference: str) -> str | None:
    """Return the commit that a git reference names, or None."""
    return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}") or None


def lacks(commit: str, path: Path, top: Path) -> bool:
    """Tell whether a file below `top` is not in a commit; one from elsewhere is in all."""
    whole = path.resolve()
    if not whole.is_relative_to(top) or "site-packages" in whole.parts:
        return False
    return git("cat-file", "-e", f"{commit}:{whole.relative_to(top)}") is None


def refuse_changes() -> None:
    """Raise UserError if the working tree has changes that no commit holds."""
    if changes := git("status", "--porcelain", "--untracked-files=no"):
        first, *more = changes.splitlines()
        others = f" and {len(more)} more" if more else ""
        raise UserError(
            f"the working tree has changes that no commit holds: {first.split()[-1]}{others}", "commit or stash them"
        )


@contextmanager
def checked_out(commits: Iterable[str], folder: Path) -> Iterator[dict[str, Tree]]:
    """Yield commit -> tree, each checked out below `folder`; whatever happens, none is left behind."""
    tops = {commit: top() for commit in commits}
    trees = {commit: Tree(top=path, checkout=folder.resolve() / commit[:12]) for commit, path in tops.items() if path}
    if len(trees) < len(tops):
        raise UserError("this folder is in no git repository", "start the gate where the suite is")
    try:
        for commit, tree in trees.items():
            remove(tree.checkout)
            if git(*NO_HOOKS, "worktree", "add", "--force", "--detach", "--quiet", str(tree.checkout), commit) is None:
                raise UserError(f"git cannot check out {commit}", "see `git worktree add`")
        yield trees
    finally:
        patient = signal.signal(signal.SIGINT, signal.SIG_IGN) if trees else None
        for tree in trees.values():
            remove(tree.checkout)
        if trees:
            signal.signal(signal.SIGINT, patient)


def remove(checkout: Path) -> None:
    """Remove a checkout and what git knows of it; one that was never made is fine."""
    if git("worktree", "remove", "--force", str(checkout)) is None and checkout.exists():
        shutil.rmtree(checkout, ignore_errors=True)
        git("worktree", "remove", "--force", str(checkout))


def git(*arguments: str) -> str | None:
    """Return what git prints, or None where it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.rstrip() if done.returncode == 0 else None
