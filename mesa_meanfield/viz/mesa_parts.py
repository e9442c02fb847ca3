"""What a page takes from Mesa's own visualization."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Mesa 3.3's page breaks a rule of Solara's, which says so at import; it is not used here.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"solara\.")
    from mesa.visualization import draw_space
    from mesa.visualization.components import AgentPortrayalStyle
    from mesa.visualization.utils import force_update, update_counter

__all__ = ["AgentPortrayalStyle", "draw_space", "force_update", "update_counter"]
