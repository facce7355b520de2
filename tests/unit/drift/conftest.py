from __future__ import annotations

import csv

import numpy as np
import pytest

from mendel.drift import MonitoringPolicy, Reference
from mendel.values import Table
from support.shared_data import shared_data


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261121)


@pytest.fixture
def policy() -> MonitoringPolicy:
    return MonitoringPolicy()


@pytest.fixture
def people(rng: np.random.Generator) -> Table:
    """Two thousand rows of two numbers, a count with many zeros, and a category."""
    return Table(
        {
            "age": rng.normal(45, 12, 2000),
            "income": rng.lognormal(8, 1, 2000),
            "late": rng.poisson(0.3, 2000).astype(np.float64),
            "city": rng.choice(np.array(["Ulm", "Bonn", "Trier"], dtype=object), 2000, p=[0.5, 0.3, 0.2]),
        }
    )


@pytest.fixture
def reference(people: Table) -> Reference:
    return Reference.fit(people)


@pytest.fixture(scope="session")
def credit() -> Table:
    """The features of 30,000 real applicants."""
    with shared_data("credit.csv").open() as file:
        rows = csv.reader(file)
        names = next(rows)[2:]
        values = np.array([row[2:] for row in rows], dtype=np.float64)
    return Table({name: values[:, place] for place, name in enumerate(names)})
