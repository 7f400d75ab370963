"""`/metrics`: what the parts' `.statistics()` say, in Prometheus' text form. Names that others rely on: service spec §9.5."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from stratos.engine.supervisor import TaskState, TaskStatistics
from stratos.indexer.lag import Histogram

PREFIX: Final = "stratos"
BUCKET_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

Parts = Mapping[str, Mapping[str, float]]

_NAMED: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("enrollments", "active"): ("stratos_enrolled_users", "Accounts with an active enrollment."),
    ("firehose", "subscribers"): ("stratos_subscription_connections", "Open stream subscriptions."),
    ("writes", "records_total"): ("stratos_records", "Records created or replaced since the start."),
}


@dataclass(slots=True)
class RequestSeries:
    """Requests of one method with one status: how many fell into each bucket (the last is open), and their seconds in sum."""

    buckets: list[int]
    seconds: float = 0.0


class RequestStatistics:
    """Counts answered requests by method and status; `method` must come from a bounded set of names."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, int], RequestSeries] = {}

    def observe(self, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        series = self._series.get((method, status))
        if series is None:
            series = self._series[method, status] = RequestSeries([0] * (len(BUCKET_SECONDS) + 1))
        series.buckets[bisect_left(BUCKET_SECONDS, seconds)] += 1
        series.seconds += seconds

    def statistics(self) -> Mapping[tuple[str, int], RequestSeries]:
        """The series by (method, status)."""
        return self._series


class StratosCollector(Collector):
    """Collects from the parts each time that it is asked; holds no figures itself."""

    def __init__(
        self,
        parts: Callable[[], Parts],
        *,
        requests: RequestStatistics,
        tasks: Callable[[], Sequence[TaskStatistics]],
        version: str,
        lags: Callable[[], Mapping[str, Histogram]] = dict,
    ) -> None:
        """`lags`: create-to-index lag, by the service that is followed."""
        self._parts = parts
        self._lags = lags
        self._requests = requests
        self._tasks = tasks
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Every metric family."""
        build = GaugeMetricFamily(f"{PREFIX}_build_info", "The running version.", labels=["version"])
        build.add_metric([self._version], 1)
        yield build
        for part, figures in self._parts().items():
            for name, value in figures.items():
                yield _figure(part, name, value)
        yield self._durations()
        if lags := self._lags():
            yield _lag_family(lags)
        yield from self._task_families()

    def _durations(self) -> Metric:
        family = HistogramMetricFamily(
            f"{PREFIX}_request_duration_seconds", "Time to answer, by method and status.", labels=["method", "status"]
        )
        bounds = [*map(str, BUCKET_SECONDS), "+Inf"]
        for (method, status), series in sorted(self._requests.statistics().items()):
            counts = accumulate(series.buckets)
            family.add_metric([method, str(status)], list(zip(bounds, counts, strict=True)), series.seconds)
        return family

    def _task_families(self) -> Iterator[Metric]:
        running = GaugeMetricFamily(f"{PREFIX}_task_running", "Whether a supervised task runs.", labels=["task"])
        restarts = CounterMetricFamily(f"{PREFIX}_task_restarts", "Restarts of a supervised task.", labels=["task"])
        for task in self._tasks():
            running.add_metric([task.name], float(task.state is TaskState.RUNNING))
            restarts.add_metric([task.name], task.restarts)
        yield running
        yield restarts


def render(collector: StratosCollector) -> bytes:
    """The text of `/metrics`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)


def _lag_family(lags: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(
        f"{PREFIX}_indexer_lag_seconds",
        "From write request, or else log entry, to the committed row.",
        labels=["service"],
    )
    for service, lag in lags.items():
        buckets = [*zip(map(str, lag.bounds), lag.cumulative, strict=True), ("+Inf", lag.count)]
        family.add_metric([service], buckets, lag.sum)
    return family


def _figure(part: str, name: str, value: float) -> Metric:
    """A figure of a part; by the house's rule a name that ends in `_total` counts, any other measures."""
    metric, help_text = _NAMED.get((part, name), (f"{PREFIX}_{part}_{name}", f"{name.replace('_', ' ')} ({part})."))
    if name.endswith("_total"):
        counter = CounterMetricFamily(metric.removesuffix("_total"), help_text)
        counter.add_metric([], value)
        return counter
    return GaugeMetricFamily(metric, help_text, value=value)
