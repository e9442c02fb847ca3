"""mesa-llm's side of the comparison: runs in its own environment, steps crowds as asked on standard input.

A line of JSON asks for a tick, a line of JSON answers: seconds by the clock, seconds of this process on the
processor, and what the agents got. Agents are stepped in parallel, as mesa-llm does with
``parallel_stepping``; the panels that its memory prints are turned off.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("OPENAI_API_KEY", "none")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no download when it is imported
_answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # whatever mesa-llm prints must not stand among the answers

import mesa  # noqa: E402
from mesa.space import MultiGrid  # noqa: E402
from mesa_llm import step_agents_parallel_sync  # noqa: E402
from mesa_llm.llm_agent import LLMAgent  # noqa: E402
from mesa_llm.reasoning.react import ReActReasoning  # noqa: E402
from mesa_llm.tools.tool_decorator import tool  # noqa: E402


@tool
def decide(agent: LLMAgent, label: str) -> str:
    """Decide what to do with the rumour.

    Args:
        label: One of share, reply, ignore.
        agent: Provided automatically.

    Returns:
        What was decided.
    """
    agent.reply = label
    return f"decided to {label}"


class Asker(LLMAgent):
    """Asks its model once per step, with one prompt: the least that an agent of mesa-llm can do."""

    reply = ""

    async def astep(self) -> None:
        """One call of the model."""
        answer = await self.llm.agenerate(self.step_prompt)
        self.reply = answer.choices[0].message.content


class Citizen(LLMAgent):
    """Steps as in mesa-llm's own examples: observe, plan by ReAct, act by a tool; two calls of the model."""

    reply = ""

    async def astep(self) -> None:
        """Observe, plan, act."""
        plan = await self.reasoning.aplan(prompt=None, obs=self.generate_obs(), selected_tools=["decide"])
        self.apply_plan(plan)


class Town(mesa.Model):
    """Agents on a grid, stepped in parallel."""

    def __init__(self, kind: type[LLMAgent], llm_model: str, prompts: list[list[str]]) -> None:
        super().__init__()
        self.grid = MultiGrid(100, 100, torus=False)
        for number, (prefix, suffix) in enumerate(prompts):
            one = kind(self, ReActReasoning, llm_model, system_prompt=prefix, step_prompt=suffix)
            one.memory.display = False
            self.grid.place_agent(one, (number % 100, number // 100 % 100))

    def step(self) -> None:
        """One tick."""
        step_agents_parallel_sync(list(self.agents))


def _tick(asked: dict[str, Any]) -> dict[str, Any]:
    os.environ["OPENAI_API_BASE"] = os.environ["OPENAI_BASE_URL"] = asked["url"]
    kind = {"ask": Asker, "step": Citizen}[asked["agents"]]
    town = Town(kind, f"openai/{asked['model']}", asked["prompts"])
    start, spent = time.perf_counter(), time.process_time()
    town.step()
    seconds, processor = time.perf_counter() - start, time.process_time() - spent
    return {"seconds": seconds, "processor": processor, "replies": [one.reply for one in town.agents]}


if __name__ == "__main__":
    for line in sys.stdin:
        _answers.write(json.dumps(_tick(json.loads(line))) + "\n")
        _answers.flush()
