"""Counters of the service, in a registry of its own (Prometheus' text format)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Only paths that exist become labels: a scanner must not fill the memory with its guesses.
PATHS = ("/v1/audio/transcriptions", "/v1/chat/completions", "/v1/models", "/health", "/metrics")
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter(
            "tiny_audio_requests", "Answers by path and status", ["path", "status"], registry=own
        )
        self.seconds = Histogram(
            "tiny_audio_request_seconds",
            "From headers to answer",
            ["path"],
            buckets=SECONDS,
            registry=own,
        )
        self.in_flight = Gauge(
            "tiny_audio_requests_in_flight", "Accepted and not answered", registry=own
        )
        self.live = Gauge("tiny_audio_live_sessions", "Open WebSocket sessions", registry=own)
        self.batch_items = Histogram(
            "tiny_audio_batch_items", "Windows in a batch", buckets=(1, 2, 4, 8, 16), registry=own
        )
        self.batch_seconds = Histogram(
            "tiny_audio_batch_seconds", "Time of a batch", buckets=SECONDS, registry=own
        )
        self.audio_seconds = Counter("tiny_audio_audio_seconds", "Audio transcribed", registry=own)
        self.decoder_losses = Counter(
            "tiny_audio_decoder_losses", "Decoding processes killed or dead", registry=own
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one answer; status 0 is a client that went away first."""
        path = path if path in PATHS else "other"
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """Return what `/metrics` shows."""
        return generate_latest(self.registry)
