"""What the papers print, and where the authors' own code departs from them."""

from atlab.system.extras import check

check(__name__)

from atlab.paper.tables import averages, deviations, preprint, table

__all__ = ["averages", "deviations", "preprint", "table"]
