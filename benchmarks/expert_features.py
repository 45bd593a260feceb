"""The expert's features: from a request's inputs to the trunk's, every step joined that can be."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = Mapping[str, Tensor]


class Holder(nn.Module):
    """A module of plain tensors."""

    def hold(self, **tensors: Tensor) -> None:
        for name, x in tensors.items():
            self.register_buffer(name, x.detach().contiguous().clone())


def missing_first(table: Tensor) -> Tensor:
    """`[missing, 0 … rows-1, unknown]`: an id between -1 and `rows`, plus one, is a row."""
    return torch.cat([table[-1:], table[:-1]])


def signed_log(x: Tensor) -> Tensor:
    """`log1p` of the size, with the sign."""
    return torch.copysign(torch.log1p(torch.abs(x)), x)


class Layer(Holder):
    """One layer of the transformer, normalised before each half."""

    def __init__(self, s: State, at: str) -> None:
        super().__init__()
        self.hold(
            scale_a=s[at + "attention.norm.scale"],
            shift_a=s[at + "attention.norm.shift"],
            qkv=torch.cat([s[f"{at}attention.{name}.weight"] for name in ("query", "key", "value")]),
            out=s[at + "attention.out.weight"],
            scale_f=s[at + "ffn.norm.scale"],
            shift_f=s[at + "ffn.norm.shift"],
            up=s[at + "ffn.up.weight"],
            up_bias=s[at + "ffn.up.bias"],
            down=s[at + "ffn.down.weight"],
            down_bias=s[at + "ffn.down.bias"],
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x` [R, L, D], `mask` [R, 1, 1, L] to be added."""
        r, length = x.size(0), x.size(1)
        h = F.layer_norm(x, [64], self.scale_a, self.shift_a)
        qkv = F.linear(h, self.qkv).view(r, length, 3, 4, 16).permute(2, 0, 3, 1, 4)  # [3, R, H, L, D/H]
        h = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], mask)
        x = x + F.linear(h.transpose(1, 2).reshape(r, length, 64), self.out)
        h = F.layer_norm(x, [64], self.scale_f, self.shift_f)
        return x + F.linear(F.gelu(F.linear(h, self.up, self.up_bias)), self.down, self.down_bias)


class History(Holder):
    """The user's recent pins, through two layers, to their mean."""

    def __init__(self, s: State) -> None:
        super().__init__()
        self.hold(
            positions=s["trunk.history.positions"],
            scale=s["trunk.history.norm.scale"],
            shift=s["trunk.history.norm.shift"],
        )
        self.first = Layer(s, "trunk.history.layers.0.")
        self.second = Layer(s, "trunk.history.layers.1.")

    def forward(self, ids: Tensor, pins: Tensor) -> Tensor:
        """`ids` [R, L] to [R, D]; of no pins at all the mean is zero, whatever attention saw."""
        known = ids >= 0
        mask = torch.where(known, 0.0, -1e30)[:, None, None]
        x = F.embedding(ids.clamp(-1, 50000) + 1, pins) + self.positions
        x = self.second(self.first(x, mask), mask)
        x = F.layer_norm(x, [64], self.scale, self.shift)
        share = known.to(x.dtype)
        share = share / share.sum(-1, keepdim=True).clamp(min=1.0)
        return torch.bmm(share.unsqueeze(1), x).squeeze(1)


class Request(Holder):
    """What the request brings, in the order of `REQUEST_COLUMNS` without the history."""

    def __init__(self, s: State) -> None:
        super().__init__()
        names = ["user_id", "country", "language", "gender", "device", "hour"]
        tables = [missing_first(s[f"features.{name}.weight"]) for name in names]
        sizes = [len(table) for table in tables]
        numbers = ["days_active", "ads_seen_today"]
        self.hold(
            last=torch.tensor(sizes) - 2,
            start=torch.tensor([1, 1, 1, 1, 1 + sizes[3], 1 + sizes[3] + sizes[4]]),
            user=tables[0],
            country=tables[1],
            language=tables[2],
            small=torch.cat(tables[3:]),
            age_mean=s["features.age.mean"],
            age_edges=s["features.age.edges"],
            age=s["features.age.weight"],
            interests=missing_first(s["features.interests.weight"]),
            instead=torch.cat([s["features.days_active.mean"], s["features.ads_seen_today.missing"]]),
            mean=torch.cat([s[f"features.{name}.mean"] for name in numbers]),
            scale=1 / torch.cat([s[f"features.{name}.std"] for name in numbers]),
            layout=s["features.layout.absent"][None],
        )

    def forward(self, ids: Tensor, age: Tensor, interests: Tensor, numbers: Tensor, vectors: Tensor) -> Tensor:
        """`ids` [R, 6], `numbers` [R, 2], `vectors` [R, 192] to [R, 306]."""
        rows = torch.minimum(ids.clamp(min=-1), self.last) + self.start
        age = age.clamp(13.0, 100.0)
        age = torch.where(age.isnan(), self.age_mean, age)
        numbers = signed_log(numbers)
        numbers = torch.where(numbers.isfinite(), numbers, self.instead)
        parts = [
            F.embedding(rows[:, 0], self.user),
            F.embedding(rows[:, 1], self.country),
            F.embedding(rows[:, 2], self.language),
            F.embedding(rows[:, 3:], self.small).flatten(1),
            F.embedding(torch.bucketize(age, self.age_edges), self.age),
            F.embedding_bag(interests.clamp(-1, 5000) + 1, self.interests, mode="mean", padding_idx=0),
            (numbers - self.mean) * self.scale,
            vectors.nan_to_num(0.0, 0.0, 0.0),
            self.layout.expand(ids.size(0), -1),
        ]
        return torch.cat(parts, 1)


class Candidate(Holder):
    """What each candidate brings, in the order of `CANDIDATE_COLUMNS`, as parts still to be joined."""

    def __init__(self, s: State) -> None:
        super().__init__()
        names = ["advertiser", "campaign", "view_type", "objective"]
        advertiser, campaign, view, objective = (missing_first(s[f"features.{name}.weight"]) for name in names)
        numbers = ["ctr_7d", "price", "saves_7d", "impressions_7d", "age_days"]
        self.hold(
            last=torch.tensor([len(t) - 2 for t in (advertiser, campaign, view, objective)]),
            start=torch.tensor([1, 1 + len(advertiser), 1, 1]),
            owners=torch.cat([advertiser, campaign]),
            kinds=torch.cat([view.repeat_interleave(len(objective), 0), objective.repeat(len(view), 1)], 1),
            topics=missing_first(s["features.topics.weight"]),
            mean=torch.cat([s[f"features.{name}.mean"] for name in numbers]),
            scale=1 / torch.cat([s[f"features.{name}.std"] for name in numbers]),
            query_match=s["features.query_match.mean"],
        )
        self.objectives = len(objective)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the tables for advertiser, campaign, view type and objective: [N, 4]."""
        return torch.minimum(ids.clamp(min=-1), self.last) + self.start

    def forward(
        self, rows: Tensor, pin: Tensor, topics: Tensor, vector: Tensor, ctr: Tensor, numbers: Tensor, match: Tensor
    ) -> list[Tensor]:
        """`numbers` [N, 4] are price, saves, impressions and age; the parts are 434 wide together."""
        roots = torch.copysign(torch.sqrt(torch.abs(ctr)), ctr).unsqueeze(1)
        normal = (torch.cat([roots, signed_log(numbers)], 1) - self.mean) * self.scale
        return [
            pin,
            F.embedding(rows[:, :2], self.owners).flatten(1),
            F.embedding(rows[:, 2] * self.objectives + rows[:, 3], self.kinds),
            F.embedding_bag(topics.clamp(-1, 2000) + 1, self.topics, mode="mean", padding_idx=0),
            vector.nan_to_num(0.0, 0.0, 0.0),
            normal.nan_to_num(0.0, 0.0, 0.0),
            torch.where(match.isfinite(), match, self.query_match).unsqueeze(1),
        ]
