// The OpenAI surface, as far as the web client needs it.

/** `status` is 0 when no answer came at all; `retryAfter` is in seconds. */
export class ApiError extends Error {
  constructor(status, message, { retryAfter = null, requestId = null } = {}) {
    super(message);
    Object.assign(this, { name: "ApiError", status, retryAfter, requestId });
  }
}

/** Throws ApiError, or the AbortError of `signal`. */
async function call(path, key, options = {}) {
  let response;
  try {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The platform does not answer. Is it running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new ApiError(response.status, body?.error?.message ?? `The answer was ${response.status}.`, {
    retryAfter: response.headers.get("retry-after"),
    requestId: response.headers.get("x-request-id"),
  });
}

/** The ids of all models. */
export async function listModels(key) {
  const response = await call("/v1/models", key);
  return (await response.json()).data.map((model) => model.id);
}

/** Streams an answer: calls `onDelta` with each delta, returns {usage, finish}. */
export async function streamChat(key, request, signal, onDelta) {
  const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
  const response = await call("/v1/chat/completions", key, { method: "POST", body, signal });
  const requestId = response.headers.get("x-request-id");
  let usage = null;
  let finish = null;
  for await (const data of events(response.body, requestId)) {
    if (data === "[DONE]") return { usage, finish };
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(502, chunk.error.message, { requestId });
    usage = chunk.usage ?? usage;
    const choice = chunk.choices?.[0];
    if (choice?.delta) onDelta(choice.delta);
    finish = choice?.finish_reason ?? finish;
  }
  throw new ApiError(502, "The answer broke off.", { requestId });
}

/** The data of each server-sent event; comments are left out. */
async function* events(body, requestId) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        throw new ApiError(0, "The connection broke.", { requestId });
      });
      if (done) return;
      held += value.replaceAll("\r\n", "\n");
      const blocks = held.split("\n\n");
      held = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
