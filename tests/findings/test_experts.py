import json

import pytest

from multimodn.findings.experts import ExpertUse, LeftOut, experts_of
from multimodn.findings.sentences import NO_EXPERTS, experts

SEEN = {"death": ["labs", "image"], "stage": ["labs"]}
FEW = "12 patients with both, 3 of them in the rarest outcome"


def provenance(left_out):
    weights = {"death": {"network": 0.1, "experts": 0.85}, "stage": {"network": 0.5, "experts": 0.5}}
    return json.loads(json.dumps({"experts": {"weights": weights, "left_out": left_out}}))


def test_weights_of_each_task_are_told():
    found = experts_of(provenance({}), SEEN)
    assert "Weights of network and experts: death 0.10 and 0.85; stage 0.50 and 0.50." in experts(found)


def test_a_task_without_any_expert_has_no_weights_that_mean_something():
    found = experts_of(provenance({"labs: stage": FEW}), SEEN)
    assert [one.has_expert for one in found.weights] == [True, False]
    text = " ".join(experts(found))
    assert "death 0.10 and 0.85." in text
    assert "The network predicts stage alone." in text
    assert "0.50" not in text


def test_who_has_no_expert_and_why_is_told_without_small_counts():
    no_vector = "its kind has no fixed vector"
    left_out = {"labs: death": FEW, "scan: death": no_vector, "scan: stage": no_vector, "ct: death": no_vector}
    text = experts(experts_of(provenance(left_out | {"ct: stage": no_vector}), SEEN))[-1]
    hidden = "12 patients with both, fewer than 5 of them in the rarest outcome"
    assert text == f"There is no expert of labs for death ({hidden}); of scan and ct for death and stage ({no_vector})."


@pytest.mark.parametrize("modality", ["labs", "labs: first"])
def test_missing_trees_are_told_apart_from_missing_experts(modality):
    reason = 'LightGBM is not installed: pip install "multimodn[trees]"'
    found = experts_of(provenance({f"{modality}: trees": reason}), SEEN)
    assert found.left_out == (LeftOut(modality, None, reason),)
    assert all(one.has_expert for one in found.weights)
    assert experts(found)[-1] == f"No boosted trees of {modality}: {reason}."


def test_a_model_without_experts_is_told_to_have_none():
    assert experts_of({}, SEEN) == ExpertUse()
    assert experts(ExpertUse()) == [NO_EXPERTS]
