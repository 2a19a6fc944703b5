"""An HTTP service that speaks OpenAI's dialect, in the order in which a request passes it.

limits          what one request and all of them together may cost
refusals        every answer that is not 200, in OpenAI's shape
connection      headers: bounded, and not for ever
guard           token, slots, the bytes and the time of a body
decode_worker   a process of its own turns an upload into samples
uploads         the pool of these processes
batcher         one thread with the model; requests share its batches
service         all of it together: an upload → segments
transcriptions  POST /v1/audio/transcriptions
chat            POST /v1/chat/completions
live            WebSocket /v1/audio/stream
counters        GET /metrics
app             the application
server          the process: sockets, signals, the temporary folder
address         which machines and pages may reach it
demo            the page for people: one file on the same API, with the same guard
"""
