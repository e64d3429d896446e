// The official OpenAI SDK for Node.js against a running platform; run by tests/e2e/test_openai_node.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.MOONPOOL_URL}/v1`,
  apiKey: process.env.MOONPOOL_KEY,
  maxRetries: 0,
});
const model = "smollm2";
const uncached = { headers: { "cache-control": "no-store" } };
const messages = [
  { role: "system", content: "You are a helpful assistant." },
  { role: "user", content: "What is the capital of France?" },
];

test("models are listed", async () => {
  const found = [];
  for await (const each of client.models.list()) found.push(each.id);
  assert.ok(found.includes(model), `${found}`);
});

test("an answer names Paris", async () => {
  const answer = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 32 });
  assert.match(answer.choices[0].message.content, /Paris/);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("a stream names Paris and tells its usage", async () => {
  const asked = { model, messages, temperature: 0, max_tokens: 32, stream_options: { include_usage: true } };
  const stream = await client.chat.completions.create({ ...asked, stream: true }, uncached);
  let text = "";
  let pieces = 0;
  let usage = null;
  for await (const chunk of stream) {
    if (chunk.choices.length === 0) {
      usage = chunk.usage;
      continue;
    }
    assert.equal(chunk.usage, null);
    text += chunk.choices[0].delta.content ?? "";
    pieces += 1;
  }
  assert.match(text, /Paris/);
  assert.ok(pieces > 3, `${pieces} pieces`);
  assert.ok(usage.completion_tokens > 0);
});

test("a stream from the cache is one like any other", async () => {
  const asked = { model, messages, temperature: 0, max_tokens: 24 };
  const whole = await client.chat.completions.create(asked);
  const { data: stream, response } = await client.chat.completions
    .create({ ...asked, stream: true })
    .withResponse();
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
  assert.equal(response.headers.get("x-moonpool-cache"), "hit");
  assert.equal(text, whole.choices[0].message.content);
});

test("a stream can be left", async () => {
  const stream = await client.chat.completions.create({ model, messages, max_tokens: 1000, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    break;
  }
});

test("embeddings come as numbers", async () => {
  const answer = await client.embeddings.create({ model, input: ["one", "two"] });
  assert.equal(answer.data.length, 2);
  assert.ok(answer.data[0].embedding.length > 100);
  assert.ok(answer.data[0].embedding.every(Number.isFinite));
});

test("errors are typed", async () => {
  const stranger = client.withOptions({ apiKey: "sk-nobody-has-this-key" });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  await assert.rejects(client.chat.completions.create({ model: "gpt-17", messages }), OpenAI.NotFoundError);
  await assert.rejects(
    client.chat.completions.create({ model, messages, temperature: "hot" }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
  );
});
