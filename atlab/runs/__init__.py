"""Run folders, notebooks as programs, grids and sweeps; knows no torch."""

from atlab.system.extras import check

check(__name__)

from atlab.runs.folder import Held, Run, check_study, is_done, mark_done, open_run, run_id, table, to_json

__all__ = ["Held", "Run", "check_study", "is_done", "mark_done", "open_run", "run_id", "table", "to_json"]
