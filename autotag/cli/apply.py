"""``autotag apply``: applies a plan that a person reviewed."""

from __future__ import annotations

from pathlib import Path

import click

from autotag.cli.options import adopt_option, quiet_option, state_option


@click.command(
    epilog="""\b
Exit codes:
  0    every line was applied
  1    some failed; the lines on stderr say why
  2    could not run: a line of the plan is wrong, or another run is writing the album; nothing was written
  130  interrupted with Ctrl-C; everything so far is safe
  129  ended by SIGHUP, or 143 by SIGTERM; likewise"""
)
@click.argument("plan", metavar="PLAN", type=click.Path(path_type=Path))
@state_option("The --state folder of the run.")
@adopt_option
@click.option("--ndjson", is_flag=True, help="One JSON object per photograph on stdout.")
@quiet_option
@click.pass_context
def apply(
    ctx: click.Context, plan: Path, *, state: Path | None, adopt: bool, ndjson: bool, quiet: bool
) -> None:
    """Apply a plan that `autotag album --plan` wrote and that you may have edited.

    In PLAN you may change tags, captions, prompts, new names and the list of writers, and delete lines.
    A photograph that changed since is skipped and reported. No model is needed.
    """
    from autotag.albums import apply_plan
    from autotag.cli.album import exit_code
    from autotag.cli.album_progress import AlbumListener, bookkeeping, report_summary
    from autotag.cli.progress import Reporter
    from autotag.cli.signals import stoppable

    reporter = Reporter(quiet=quiet)
    listener = AlbumListener(reporter, ndjson=ndjson, show=False, are_due="in the plan")
    with stoppable() as stop, listener.counting(), bookkeeping():
        summary = apply_plan(plan, state=state, adopt=adopt, listener=listener, stop=stop)
    report_summary(summary, reporter)
    ctx.exit(exit_code(summary.stopped, summary.failed, stop))
