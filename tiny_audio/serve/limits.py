"""The limits of one request, and of all of them together."""

from dataclasses import dataclass

MAX_HEADER_BYTES = 2**14


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the service; every one is refused with its number in the message."""

    # One request.
    max_upload_bytes: int = 25 * 2**20  # as OpenAI's
    max_audio_s: float = 1_800.0
    max_prompt_chars: int = 4_000
    max_answer_tokens: int = 256
    body_idle_s: float = 10.0  # between two pieces of a body
    body_timeout_s: float = 60.0  # the whole body
    request_timeout_s: float = 120.0  # from the end of the body to the answer

    # The process that decodes an upload.
    decode_workers: int = 2
    decode_timeout_s: float = 20.0
    decode_memory_bytes: int = 512 * 2**20

    # All requests together.
    max_requests: int = 128  # accepted and not yet answered; one more gets 503
    max_bytes_in_flight: int = 2**28  # of bodies that are not answered yet; more get 503
    max_held_s: float = 14_400.0  # decoded audio in the temporary folder: 4 h are 0.9 GB
    max_live: int = 8  # WebSocket sessions
    max_live_s: float = 3_600.0
    live_idle_s: float = 30.0

    # One batch: windows of any requests.
    batch_items: int = 16
    batch_s: float = 240.0  # of audio, padding included
    batch_wait_s: float = 0.01  # for company, once there is one window

    @property
    def max_body_bytes(self) -> int:
        """Return the largest body: the upload as base64 in JSON, and what stands around it."""
        return self.max_upload_bytes * 4 // 3 + 2**16


# One person's page: files may be long, and few of them come at a time.
OF_THE_PAGE = Limits(
    max_upload_bytes=2**28,  # two hours of mp3 at 256 kbit/s
    max_audio_s=7_200.0,
    max_requests=16,
    decode_timeout_s=120.0,
    body_timeout_s=600.0,
    request_timeout_s=7_200.0,
)
