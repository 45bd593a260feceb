"""The bar: the search surface of `specs/ads_engagement.tower` as an expert would write it for serving, by hand.

Plain PyTorch for this one surface and nothing else, with all that a hand can do without changing the numbers:

- only what search needs, and what the request alone decides is computed on its R rows;
- the first cross layer is split: the request's part becomes the bias, the candidate's reads its columns in place;
- queries, keys and values are one product, so are the modulation's two and the two heads; the experts' first layers
  were tried as one product, which took 3 to 5% longer from 64 candidates on;
- ids of several features are made safe in one step, tables of one width are one table, two small tables are one table
  of their pairs, lists are pooled by `embedding_bag`, numbers are transformed and normalised together;
- results are written over operands that nothing reads again;
- the calibration reads slopes that were worked out beforehand.

Its tensors are made from a build's own, by name, so that both must give the same scores.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.expert_features import Candidate, History, Holder, Request, State, missing_first


def columns(*spans: tuple[int, int]) -> list[int]:
    """Places in the spec's mixed input (request 0 to 306, candidate to 740, history to 804), in another order."""
    return [i for start, stop in spans for i in range(start, stop)]


CANDIDATE_COLUMNS = columns((306, 734), (735, 736), (734, 735), (736, 740))  # the root before the logarithms
REQUEST_COLUMNS = columns((0, 60), (68, 76), (60, 68), (76, 306), (740, 804))  # the tables of four numbers together
ORDER = CANDIDATE_COLUMNS + REQUEST_COLUMNS


class Trunk(Holder):
    """Three cross layers, then four experts under search's gate."""

    def __init__(self, s: State) -> None:
        super().__init__()
        weights = [s[f"trunk.crossed.{i}.weight"][ORDER][:, ORDER] for i in range(3)]
        experts = [f"trunk.shared.expert.{k}." for k in range(4)]
        self.hold(
            request=weights[0][:, len(CANDIDATE_COLUMNS) :],
            candidate=weights[0][:, : len(CANDIDATE_COLUMNS)],
            second=weights[1],
            third=weights[2],
            biases=torch.stack([s[f"trunk.crossed.{i}.bias"][ORDER] for i in range(3)]),
            gate=s["trunk.shared.gate.search.weight"][:, ORDER],
            up=torch.stack([s[at + "0.weight"][:, ORDER] for at in experts]),
            up_bias=torch.stack([s[at + "0.bias"] for at in experts]),
            down=torch.stack([s[at + "1.weight"] for at in experts]),
            down_bias=torch.stack([s[at + "1.bias"] for at in experts]),
        )

    def forward(self, x0: Tensor, request: Tensor, of: Tensor) -> Tensor:
        """`x0` [N, 804], candidate columns first; `request` [R, 370]; `of` [N] is each candidate's request."""
        once = F.linear(request, self.request, self.biases[0])  # [R, 804]
        ours = x0[:, : self.candidate.size(1)]
        if once.size(0) == 1:
            v = F.linear(ours, self.candidate, once[0])
        else:
            v = torch.index_select(once, 0, of).addmm_(ours, self.candidate.t())
        x = torch.addcmul(x0, x0, v, out=v)
        v = F.linear(x, self.second, self.biases[1])
        x = torch.addcmul(x, x0, v, out=v)
        v = F.linear(x, self.third, self.biases[2])
        return self.experts(torch.addcmul(x, x0, v, out=v))

    def experts(self, x: Tensor) -> Tensor:
        """[N, 804] to [N, 256]."""
        gate = torch.softmax(F.linear(x, self.gate), 1)
        total = one(x, self.up[0], self.up_bias[0], self.down[0], self.down_bias[0]).mul_(gate[:, 0:1])
        for k in range(1, 4):
            y = one(x, self.up[k], self.up_bias[k], self.down[k], self.down_bias[k])
            total.addcmul_(y, gate[:, k : k + 1])
        return total


def one(x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    """One expert: its first result is still in the caches for its second, as that of all four together isn't."""
    return F.linear(F.linear(x, up, up_bias).relu_(), down, down_bias).relu_()


class Tower(Holder):
    """Search's tower, modulated by the query's intent."""

    def __init__(self, s: State) -> None:
        super().__init__()
        at, intent = "surfaces.search.tower.", "surfaces.search.intent."
        film = at + "fuse_intent_after_1_film."
        self.hold(
            query=missing_first(s["surfaces.search.query.weight"]),
            intent0=s[intent + "0.weight"],
            intent0_bias=s[intent + "0.bias"],
            intent1=s[intent + "1.weight"],
            intent1_bias=s[intent + "1.bias"],
            film=torch.cat([s[film + "scale.weight"], s[film + "shift.weight"]]),
            film_bias=torch.cat([s[film + "scale.bias"] + 1, s[film + "shift.bias"]]),
            layer0=s[at + "layers.0.weight"],
            layer0_bias=s[at + "layers.0.bias"],
            layer1=s[at + "layers.1.weight"],
            layer1_bias=s[at + "layers.1.bias"],
            heads=torch.cat([s[at + "click.weight"], s[at + "save.weight"]]),
            heads_bias=torch.cat([s[at + "click.bias"], s[at + "save.bias"]]),
        )

    def forward(self, shared: Tensor, query: Tensor, history: Tensor, of: Tensor) -> Tensor:
        """The logits of both heads: [N, 2]."""
        words = F.embedding_bag(query.clamp(-1, 30000) + 1, self.query, mode="mean", padding_idx=0)
        intent = F.linear(torch.cat([words, history], 1), self.intent0, self.intent0_bias).relu_()
        film = F.linear(F.linear(intent, self.intent1, self.intent1_bias).relu_(), self.film, self.film_bias)
        if film.size(0) != 1:
            film = film.index_select(0, of)
        h = F.linear(shared, self.layer0, self.layer0_bias).relu_()
        h = torch.addcmul(film[:, 256:], film[:, :256], h)
        h = F.linear(h, self.layer1, self.layer1_bias).relu_()
        return F.linear(h, self.heads, self.heads_bias)


class Calibration(Holder):
    """Isotonic for clicks, Platt's for saves, each by view type; rows are `[missing, 0 … 3, unknown]`."""

    def __init__(self, s: State) -> None:
        super().__init__()
        at = "surfaces.search.tower."
        knots, values = (missing_first(s[f"{at}click.calibrate.{name}"]) for name in ("knots", "values"))
        knots, values = (torch.cat([x, x[:1]]) for x in (knots, values))  # what is missing or unknown has one row
        width, rise = knots.diff(dim=1), values.diff(dim=1)
        slope = torch.where(width > 0, rise / width.clamp(min=1e-30), torch.zeros_like(rise))
        platt = missing_first(torch.cat([s[f"{at}save.calibrate.{name}"] for name in ("a", "c")], 1))
        self.hold(
            knots=knots,
            ends=torch.stack([knots[:, 0], knots[:, -1]], 1),
            lines=torch.stack([knots[:, :-1], values[:, :-1], slope], 2).flatten(0, 1),
            platt=torch.cat([platt, platt[:1]]),
        )

    def forward(self, logits: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        ends, platt = F.embedding(row, self.ends), F.embedding(row, self.platt)
        p = torch.sigmoid(logits[:, 0]).clamp(ends[:, 0], ends[:, 1])
        left = torch.searchsorted(F.embedding(row, self.knots), p.unsqueeze(1), right=True).squeeze(1) - 1
        line = F.embedding(row * 19 + left.clamp(0, 18), self.lines)
        click = torch.addcmul(line[:, 1], line[:, 2], p - line[:, 0])
        return click, torch.sigmoid(torch.addcmul(platt[:, 1], platt[:, 0], logits[:, 1]))


class Expert(nn.Module):
    """Takes and gives what the build's search surface does."""

    def __init__(self, s: State) -> None:
        super().__init__()
        self.request, self.history, self.candidate = Request(s), History(s), Candidate(s)
        self.trunk, self.tower, self.calibration = Trunk(s), Tower(s), Calibration(s)
        self.pins = nn.Parameter(missing_first(s["tables.pins.weight"]), requires_grad=False)

    def forward(
        self,
        user_id: Tensor,
        country: Tensor,
        language: Tensor,
        gender: Tensor,
        age: Tensor,
        device: Tensor,
        hour: Tensor,
        interests: Tensor,
        days_active: Tensor,
        ads_seen_today: Tensor,
        user_embedding: Tensor,
        session: Tensor,
        recent_pins: Tensor,
        query: Tensor,
        pin_id: Tensor,
        advertiser: Tensor,
        campaign: Tensor,
        view_type: Tensor,
        objective: Tensor,
        topics: Tensor,
        pin_embedding: Tensor,
        price: Tensor,
        ctr_7d: Tensor,
        saves_7d: Tensor,
        impressions_7d: Tensor,
        age_days: Tensor,
        query_match: Tensor,
        candidates_per_request: Tensor,
    ) -> tuple[Tensor, Tensor]:
        history = self.history(recent_pins, self.pins)
        ids = torch.stack([user_id, country, language, gender, device, hour], 1)
        numbers = torch.stack([days_active, ads_seen_today], 1)
        vectors = torch.cat([user_embedding, session], 1)
        request = torch.cat([self.request(ids, age, interests, numbers, vectors), history], 1)  # [R, 370]
        rows = self.candidate.rows(torch.stack([advertiser, campaign, view_type, objective], 1))
        pin = F.embedding(pin_id.clamp(-1, 50000) + 1, self.pins)
        numbers = torch.stack([price, saves_7d, impressions_7d, age_days], 1)
        mixed = self.candidate(rows, pin, topics, pin_embedding, ctr_7d, numbers, query_match)
        of = candidates_per_request
        if request.size(0) == 1:
            mixed.append(request.expand(pin.size(0), -1))
        else:
            of = torch.repeat_interleave(candidates_per_request)
            mixed.append(request.index_select(0, of))
        shared = self.trunk(torch.cat(mixed, 1), request, of)
        return self.calibration(self.tower(shared, query, history, of), rows[:, 2])


def expert(state: State) -> torch.jit.ScriptModule:
    """The expert's version, scripted and frozen, from a build's tensors by name."""
    scripted = torch.jit.script(Expert(state).eval())
    torch._C._jit_pass_inline(scripted.graph)  # freezing leaves calls in it where the run-time optimiser is off
    return torch.jit.freeze(scripted)
