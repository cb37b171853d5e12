"""The bench every stage works at: configuration, seams, and what was found out about this machine once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcp_tierkit.checks import Bench
from mcp_tierkit.config import Config
from mcp_tierkit.engines import find_engines
from mcp_tierkit.gateway import Gateway, LiteLLMGateway
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.playbook.memo import Memo
from mcp_tierkit.prices import PriceTable
from mcp_tierkit.sandbox import probe
from mcp_tierkit.tiers import Survey, Tier, no_model, survey
from mcp_tierkit.types import Door, Isolation, Task, TierName
from mcp_tierkit.workspace import Workspace


@dataclass
class Kit:
    """One project's seams. Tiers are found on first use; a search that found none is made again."""

    config: Config
    workspace: Workspace
    ledger: Ledger
    gateway: Gateway
    prices: PriceTable
    door: Door = "mcp"
    baselines: dict[str, Any] = field(default_factory=dict)
    shelf: Memo[Any] = field(default_factory=Memo)
    paused: dict[str, Any] = field(default_factory=dict)
    _survey: Survey | None = None

    async def survey(self) -> Survey:
        """Every tier with its model, or the reason it has none."""
        if self._survey is None or not self._survey.tiers:
            found = survey(self.config)
            self._survey = survey(self.config, await find_engines()) if found.missing else found
        return self._survey

    async def tiers(self) -> dict[TierName, Tier]:
        return (await self.survey()).tiers

    async def tier(self, name: TierName) -> Tier:
        """The model behind a tier. Raises NoModel, which says what to set."""
        found = await self.survey()
        if name not in found.tiers:
            raise no_model(name, found, self.config.notes)
        return found.tiers[name]

    async def bench(self, task: Task) -> Bench:
        """Where one task's checks run, confined where this machine can and else in place, and what they may see."""
        isolation: Isolation = "sandbox" if (await probe()).kind == "sandbox" else "in_place"
        config = self.config
        return Bench(
            root=self.workspace.root,
            isolation=isolation,
            log_dir=f".tierkit/{task.task_id}",
            allow=config.checks.allow,
            network=config.checks.network,
            # A worktree's history lies in the main repository, a package's tool settings in the folders above it.
            readable=tuple(p for p in (config.tree, config.repository) if not p.is_relative_to(config.project)),
            deny=config.policy.deny,
            files=task.files,
        )

    async def close(self) -> None:
        await self.ledger.close()
        if isinstance(self.gateway, LiteLLMGateway):
            await self.gateway.aclose()


def open_kit(config: Config, *, gateway: Gateway | None = None, door: Door = "mcp") -> Kit:
    """The kit of one project. Nothing is opened, asked or imported that the first call does not need."""
    return Kit(
        config=config,
        workspace=Workspace(config.project, config.policy.deny),
        ledger=open_ledger(config.ledger_url, state_dir=config.state_dir, settle_wait_s=config.settle_wait_s),
        gateway=gateway or LiteLLMGateway(config.key),
        prices=config.price_table(),
        door=door,
    )
