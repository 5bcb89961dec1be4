"""What outputs, link, prior and metrics of each kind mean, against independent programs and brute force."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn import metrics as sk
from torch.nn import functional as F

from multimodn.base.kinds import load_kind
from multimodn.metrics.survival import integrated_brier, uno
from tests._survival_scores import concordance, survival_score
from tests.tasks._cases import fit, make_targets, make_task

NAN = float("nan")


def scored(kind, n_rows=80):
    """Raw outputs and targets of labelled rows, and the scores."""
    task = make_task(kind)
    target, known = task.prepare(make_targets(n_rows, seed=5))
    outputs = torch.randn(n_rows, task.output_size)[known]
    return task, outputs, target[known], task.metrics(outputs, target[known])


def link_loss(task, outputs, target):
    """Cross-entropy of the link scale against its targets, an independent way to the loss."""
    return F.binary_cross_entropy_with_logits(task.link(outputs), task.link_target(target), reduction="none")


def test_binary_prior_and_link():
    task, outputs, target, _ = scored("binary")
    counts = make_targets()["status"].value_counts()
    odds = (counts["deceased"] + 0.5) / (counts["alive"] + 0.5)
    torch.testing.assert_close(task.prior().exp(), torch.tensor([odds], dtype=torch.float32))
    torch.testing.assert_close(task.predict(outputs)["probability"], task.link(outputs)[:, 0].sigmoid())
    torch.testing.assert_close(task(outputs, target), link_loss(task, outputs, target)[:, 0])


def test_multiclass_prior_and_link():
    task, outputs, target, _ = scored("multiclass")
    counts = make_targets()["site"].value_counts().reindex(task.classes) + 0.5
    torch.testing.assert_close(task.prior().exp(), torch.tensor((counts / counts.sum()).to_numpy()).float())
    predicted = torch.stack(list(task.predict(outputs).values()), 1)
    torch.testing.assert_close(task.link(outputs).sigmoid(), predicted)
    torch.testing.assert_close(task(outputs, target), F.cross_entropy(outputs, target, reduction="none"))
    assert task.link_names == list(task.predict(outputs)) == ["colon", "lung", "skin"]


def labels_task(n):
    names = [f"l{k}" for k in range(n)]
    return load_kind("tasks", "multilabel")("y", names, [["0", "1"]] * n, [0.0] * n)


def test_labels_are_grouped_by_what_is_known():
    task, rows = labels_task(2), torch.cartesian_prod(*[torch.tensor([0.0, -1.0, 1.0])] * 2)
    names = ["none", "none (l1 unknown)", "l1", "none (l0 unknown)", "", "l1 (l0 unknown)", "l0", "l0 (l1 unknown)"]
    found = task.strata(rows).tolist()
    assert [task.stratum_names[k] if k >= 0 else "" for k in found] == [*names, "l0 + l1"]
    assert sorted(found) == list(range(-1, task.n_strata))
    assert labels_task(1).strata(torch.tensor([[0.0], [-1.0], [1.0]])).tolist() == [0, -1, 1]


@given(st.integers(1, 3), st.integers(0, 10_000))
def test_the_upper_half_of_combinations_has_the_first_known_label_positive(n, seed):
    task, rng = labels_task(n), np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (50, n))
    strata = task.strata(torch.from_numpy(rows).float()).numpy()
    assert ((strata == -1) == (rows < 0).all(axis=1)).all()
    for row, stratum in zip(rows, strata, strict=True):
        known = row[row >= 0]
        assert stratum == -1 or (stratum >= task.n_strata / 2) == (known[0] == 1)


@pytest.mark.parametrize(
    ("row", "group"),
    [([1, 0, 1, 0, 0], 2), ([1, 1, 1, 1, 1], 5), ([1, -1, -1, -1, -1], 5), ([0, -1, -1, -1, -1], 0),
     ([1, 0, -1, -1, -1], 3), ([0, 0, 1, -1, -1], 2), ([-1] * 5, -1)],
)  # fmt: skip
def test_many_labels_are_grouped_by_the_share_of_known_labels_that_are_positive(row, group):
    task = labels_task(5)
    assert task.n_strata == len(task.stratum_names) == 6
    assert task.strata(torch.tensor([row]).float()).tolist() == [group]


def test_multilabel_loss_is_the_mean_over_known_labels():
    task, outputs, target, _ = scored("multilabel")
    known = target >= 0
    assert not known.all()
    losses = torch.stack([link_loss(task, outputs, target)[i][known[i]].mean() for i in range(len(target))])
    torch.testing.assert_close(task(outputs, target), losses)
    torch.testing.assert_close(torch.stack(list(task.predict(outputs).values()), 1), task.link(outputs).sigmoid())
    counts = make_targets()["smoker"].value_counts()
    odds = (counts["yes"] + 0.5) / (counts["no"] + 0.5)
    assert task.prior()[2].exp().item() == pytest.approx(odds, rel=1e-5)


def test_ordinal_prior_and_link():
    task, outputs, target, _ = scored("ordinal")
    counts = make_targets()["stage"].value_counts().reindex(task.classes) + 0.5
    prior = task.predict(task.prior()[None])
    frequencies = (counts / counts.sum()).to_numpy()
    assert [prior[name].item() for name in task.classes] == pytest.approx(frequencies, rel=1e-5)
    assert prior["expected"].item() == pytest.approx(frequencies @ np.arange(4), rel=1e-5)
    predicted = task.predict(outputs)
    chances = torch.stack([predicted[name] for name in task.classes], 1)
    above = chances.flip(1).cumsum(1).flip(1)[:, 1:]
    torch.testing.assert_close(task.link(outputs).sigmoid(), above)
    torch.testing.assert_close(task(outputs, target), -chances.gather(1, target[:, None])[:, 0].log())
    torch.testing.assert_close(predicted["expected"], chances @ torch.arange(4.0))
    assert task.link_names == [">I", ">II", ">III"]
    assert torch.equal(task.link_target(torch.tensor([0, 2])), torch.tensor([[0.0, 0, 0], [1, 1, 0]]))


def test_regression_prior_and_loss():
    task, outputs, target, _ = scored("regression")
    values = make_targets()["score"].dropna()
    prior = task.predict(task.prior()[None])
    assert prior["mean"].item() == pytest.approx(values.mean(), rel=1e-5)
    assert prior["sd"].item() == pytest.approx(values.std(ddof=0), rel=1e-5)
    predicted = task.predict(outputs)
    torch.testing.assert_close(task.link(outputs)[:, 0], predicted["mean"])
    density = torch.distributions.Normal(predicted["mean"], predicted["sd"]).log_prob(target)
    torch.testing.assert_close(task(outputs, target), -density - np.log(task.sd), atol=1e-4, rtol=1e-4)


def test_binary_metrics():
    task, outputs, target, scores = scored("binary")
    p = task.predict(outputs)["probability"]
    assert scores == pytest.approx(
        {
            "auroc": sk.roc_auc_score(target, p),
            "auprc": sk.average_precision_score(target, p),
            "brier": sk.brier_score_loss(target, p),
            "log_loss": sk.log_loss(target, p),
            "balanced_accuracy": sk.balanced_accuracy_score(target, p > 0.5),
        },
        rel=1e-5,
    )


def test_multiclass_metrics():
    _, outputs, target, scores = scored("multiclass")
    p = outputs.double().softmax(1).numpy()
    assert scores == pytest.approx(
        {
            "auroc": np.mean([sk.roc_auc_score(target == k, p[:, k]) for k in range(3)]),
            "balanced_accuracy": sk.balanced_accuracy_score(target, p.argmax(1)),
            "log_loss": sk.log_loss(target, p),
            "brier": ((p - np.eye(3)[target]) ** 2).sum(1).mean(),
        }
    )


def test_multilabel_metrics_average_over_labels():
    task, outputs, target, scores = scored("multilabel")
    known = target >= 0
    each = [sk.roc_auc_score(target[known[:, k], k], outputs[known[:, k], k]) for k in range(3)]
    assert scores["auroc"] == pytest.approx(np.mean(each))
    one_class = torch.where(torch.arange(3) == 0, 1.0, target)  # the first label is positive in everybody
    assert task.metrics(outputs, one_class)["auroc"] == pytest.approx(np.mean(each[1:]))


def test_ordinal_metrics():
    task, outputs, target, scores = scored("ordinal")
    predicted = task.predict(outputs)
    chances = torch.stack([predicted[name] for name in task.classes], 1)
    median = (chances.cumsum(1) < 0.5).sum(1)
    above = 1 - chances.double().cumsum(1)
    assert scores == pytest.approx(
        {
            "quadratic_kappa": sk.cohen_kappa_score(target, median, weights="quadratic"),
            "auroc": np.mean([sk.roc_auc_score(target > k, above[:, k]) for k in range(3)]),
            "mae": sk.mean_absolute_error(target, median),
            "balanced_accuracy": sk.balanced_accuracy_score(target, median),
        }
    )


def test_regression_metrics():
    task, outputs, target, scores = scored("regression")
    predicted = {name: values.numpy() for name, values in task.predict(outputs.double()).items()}
    mean, sd = predicted["mean"], predicted["sd"]

    def crps(y, m, s):
        below = integrate.quad(lambda x: stats.norm.cdf(x, m, s) ** 2, m - 15 * s, y)[0] if y > m - 15 * s else 0
        above = integrate.quad(lambda x: stats.norm.sf(x, m, s) ** 2, y, m + 15 * s)[0] if y < m + 15 * s else 0
        return below + above

    few = slice(0, 5)
    assert task.metrics(outputs[few], target[few])["crps"] == pytest.approx(
        np.mean([crps(*row) for row in zip(target[few].double().numpy(), mean[few], sd[few], strict=True)]), rel=1e-4
    )
    assert scores["rmse"] == pytest.approx(sk.root_mean_squared_error(target, mean), rel=1e-6)
    assert scores["mae"] == pytest.approx(sk.mean_absolute_error(target, mean), rel=1e-6)
    assert scores["r2"] == pytest.approx(sk.r2_score(target.double(), mean), rel=1e-6)
    assert scores["pearson"] == pytest.approx(stats.pearsonr(target.double(), mean)[0], rel=1e-6)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "ordinal"])
def test_one_class_only_has_no_auroc_and_no_accuracy(kind):
    task, outputs, target, _ = scored(kind)
    scores = task.metrics(outputs, torch.ones_like(target))
    assert np.isnan(scores["auroc"])
    assert np.isnan(scores["balanced_accuracy"])


def survival_rows(n_rows, seed, n_times=8):
    rng = np.random.default_rng(seed)
    time = rng.integers(1, n_times, n_rows).astype(float)
    return np.round(rng.normal(size=n_rows), 1), time, rng.random(n_rows) < 0.6


@given(st.integers(1, 25), st.integers(0, 10_000))
def test_concordance_counts_every_pair(n_rows, seed):
    risk, time, event = survival_rows(n_rows, seed)
    won = pairs = 0.0
    for i in range(n_rows):
        for j in range(n_rows):
            if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                pairs += 1
                won += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    assert concordance(risk, time, event) == pytest.approx(won / pairs if pairs else NAN, nan_ok=True)


@given(st.integers(2, 25), st.integers(0, 10_000), st.integers(2, 9))
def test_uno_counts_every_pair_by_the_chance_of_being_seen(n_rows, seed, until):
    risk, time, event = survival_rows(n_rows, seed)
    seen = [np.prod([1 - ((time == u) & ~event).sum() / ((time > u) | ((time == u) & ~event)).sum()
                     for u in np.unique(time[~event]) if u < t]) for t in time]  # fmt: skip
    won = pairs = 0.0
    for i in range(n_rows):
        for j in range(n_rows):
            if event[i] and time[i] < until and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                pairs += seen[i] ** -2
                won += ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])) / seen[i] ** 2
    found = survival_score(uno, risk, time, event, [until])
    assert found == pytest.approx(won / pairs if pairs else NAN, nan_ok=True)


def torchsurv_metrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it compiles with a deprecated function at import
        from torchsurv.metrics import brier_score, cindex
        from torchsurv.stats import ipcw
    return cindex.ConcordanceIndex(), brier_score.BrierScore(), ipcw.get_ipcw


def test_survival_metrics_agree_with_torchsurv():
    cindex, brier, get_ipcw = torchsurv_metrics()
    risk, time, event = survival_rows(300, 1)
    flags = torch.from_numpy(event)
    expected = cindex(torch.from_numpy(risk).float(), flags, torch.from_numpy(time).float()).item()
    assert concordance(risk, time, event) == pytest.approx(expected, rel=1e-5)
    rng = np.random.default_rng(2)
    time = rng.permutation(300) + 1.0  # without ties, where it weights an event by censoring at the same time too
    survival, edges = np.sort(rng.random((300, 4)), 1)[:, ::-1].copy(), np.array([40.0, 90.0, 130.0, 220.0])
    times, at = torch.from_numpy(time).float(), torch.from_numpy(edges).float()
    weights = get_ipcw(flags, times), get_ipcw(flags, times, at)
    brier(torch.from_numpy(survival).float(), flags, times, at, *weights)
    found = survival_score(integrated_brier, risk, time, event, edges, survival)
    assert found == pytest.approx(brier.integral().item(), rel=1e-4)


def test_survival_metrics_are_nan_where_nothing_compares():
    risk, time, event = survival_rows(20, 3)
    assert np.isnan(concordance(risk, time, np.zeros(20, dtype=bool)))
    assert np.isnan(survival_score(uno, risk, time, event, [0.5]))
    assert np.isnan(survival_score(integrated_brier, risk, time, event, [50.0, 60.0], np.ones((20, 2))))


def test_survival_loss_by_hand():
    frame = pd.DataFrame({"t": [10, 20, 30, 40], "e": [1, 1, 1, 1]})
    task = fit("survival", frame, time="t", event="e", n_intervals=4)
    assert task.edges.tolist() == [10, 20, 30, 40]
    outputs = torch.tensor([0.3, -1.0, 0.2, 0.5, -0.4])
    h = (0.3 + outputs[1:]).sigmoid().double().numpy()
    cases = [
        (10, 1, h[0]),  # an event at an edge belongs to the interval that ends there
        (0, 1, h[0]),
        (10.1, 1, (1 - h[0]) * h[1]),
        (30, 1, (1 - h[0]) * (1 - h[1]) * h[2]),
        (14.9, 0, 1 - h[0]),  # censored before the middle of the second interval
        (15, 0, (1 - h[0]) * (1 - h[1])),
        (4, 0, 1.0),
        (99, 0, np.prod(1 - h)),
        (99, 1, np.prod(1 - h)),  # an event after the last edge
    ]
    target = torch.tensor([[time, event] for time, event, _ in cases], dtype=torch.float32)
    loss = task(outputs.expand(len(cases), -1), target)
    assert loss.tolist() == pytest.approx([-np.log(likelihood) for *_, likelihood in cases], abs=1e-5)


def test_survival_prior_is_the_life_table():
    task = make_task("survival")
    target, known = task.prepare(make_targets())
    time, event = target[known].double().numpy().T
    survival = np.array([values.item() for values in list(task.predict(task.prior()[None]).values())[1:]])
    at_risk = [(time >= t).sum() for t in np.unique(time[event > 0])]
    deaths = [((time == t) & (event > 0)).sum() for t in np.unique(time[event > 0])]
    kaplan_meier = np.cumprod(1 - np.array(deaths) / at_risk)
    at_edges = kaplan_meier[np.searchsorted(np.unique(time[event > 0]), task.edges.numpy(), side="right") - 1]
    np.testing.assert_allclose(survival, at_edges, atol=0.03)


@given(st.lists(st.floats(-60, 60, width=32), min_size=6, max_size=6), st.integers(0, 5))
def test_log_risk_is_the_cumulative_hazard_and_rises_with_every_output(values, at):
    task = make_task("survival")
    outputs = torch.tensor(values, dtype=torch.float64)
    risk = task.link(outputs)
    if abs(risk.item()) < 3:
        torch.testing.assert_close(risk.exp(), -task.survival(outputs)[-1:].log(), rtol=1e-6, atol=1e-9)
    raised = outputs.clone()
    raised[at] += 1.0
    assert task.link(raised) >= risk
    names = list(task.predict(outputs))
    assert names == ["risk", *(f"survival@{edge:g}" for edge in task.edges.tolist())]


def test_survival_times_that_look_alike_keep_their_names():
    frame = pd.DataFrame({"t": [1234567, 1234568, 1234569], "e": [1, 1, 1]})
    task = fit("survival", frame, time="t", event="e")
    assert list(task.predict(task.prior())) == ["risk", *(f"survival@{t}.0" for t in frame["t"])]
