"""The linear expert on a teacher's features is scikit-learn's logistic regression."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

import atlab
from atlab.teachers.expert import linear_expert


def test_it_is_logistic_regression_on_standardised_pooled_features():
    torch.manual_seed(0)
    y = torch.arange(30) % 3
    x = torch.randn(30, 1, 32, 32) + y.reshape(-1, 1, 1, 1)
    rows = torch.randperm(40)[:30]
    clips = atlab.data.InMemory(x, y, batch_size=8, shuffle=True, rows=rows)
    teacher = atlab.Teacher(atlab.models.vgg16(5, width=1 / 8), layers="conv3")
    features = teacher(x)["conv3"].double().mean((2, 3)).numpy()
    features = (features - features.mean(0)) / np.where(features.std(0) > 0, features.std(0), 1)
    expected = (
        LogisticRegression(C=1 / (30 * 1e-2), tol=1e-10, max_iter=10000).fit(features, y).predict_log_proba(features)
    )
    found = linear_expert(teacher, clips, classes=3, decay=1e-2)
    assert np.allclose(found[rows], expected, atol=1e-4)
    others = np.setdiff1d(np.arange(len(found)), rows)
    assert len(others) and (found[others] == 0).all()
