"""What a server counts, in the text form of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Seconds: from a small network on an idle machine to the longest time that an answer may take.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counts of one server, apart from those of others in the process."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self._registry = own
        self.requests = Counter("tltoolkit_requests", "Requests for predictions.", registry=own)
        self.errors = Counter(
            "tltoolkit_errors", "Requests without predictions.", ["status"], registry=own
        )
        self.images = Counter("tltoolkit_images", "Images by outcome.", ["outcome"], registry=own)
        self.seconds = Histogram(
            "tltoolkit_request_seconds",
            "From a request's head to its answer.",
            buckets=SECONDS,
            registry=own,
        )
        self.batches = Histogram(
            "tltoolkit_batch_images", "Images of a forward pass.", buckets=IMAGES, registry=own
        )
        self.queue = Gauge(
            "tltoolkit_queue", "Requests being read, waiting or computed.", registry=own
        )
        # So that a series is there before its first event.
        for outcome in ("answered", "abstained", "unreadable"):
            self.images.labels(outcome)

    def text(self) -> bytes:
        """All counts."""
        return generate_latest(self._registry)
