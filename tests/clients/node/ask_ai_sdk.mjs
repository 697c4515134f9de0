// The AI SDK against a server: node ask_ai_sdk.mjs URL prints what it was given, as cases.py does for the other clients.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';

const WEATHER_QUESTION = 'What is the weather in Oslo?';
const server = createOpenAICompatible({
  name: 'sheaf', baseURL: process.argv[2] + '/v1', includeUsage: true, supportsStructuredOutputs: true,
});
const asked = { model: server('nano'), temperature: 0, maxOutputTokens: 200, maxRetries: 0 };
const tools = {
  set_timer: tool({ description: 'Start a timer.', inputSchema: z.object({ minutes: z.int() }) }),
  get_weather: tool({ description: 'Current weather in a city.', inputSchema: z.object({ city: z.string() }) }),
};
const working = {
  ...tools, get_weather: { ...tools.get_weather, execute: async () => ({ temperature: 12, sky: 'rainy' }) },
};

async function plain(answer) {
  return {
    content: await answer.text, reasoning: await answer.reasoningText ?? null, finish: await answer.finishReason,
    calls: (await answer.toolCalls).map((call) => [call.toolName, call.input]),
    tokens: (await answer.usage).outputTokens,
  };
}

async function streamed(fields) {
  let error;
  const answer = streamText({ ...asked, ...fields, onError: (event) => { error = event.error; } });
  await answer.consumeStream();
  if (error) throw error;
  return plain(answer);
}

async function both(fields) {
  return { whole: await plain(await generateText({ ...asked, ...fields })), streamed: await streamed(fields) };
}

const cases = {
  chat: () => both({ prompt: 'What is 47 + 85?' }),
  tools: () => both({ prompt: WEATHER_QUESTION, tools }),
  agent: async () => (await streamed({ prompt: WEATHER_QUESTION, tools: working, stopWhen: stepCountIs(3) })).content,
  object: async () => (await generateObject({
    ...asked, prompt: 'Write a person as JSON with name Belka, age 31 and city Tarvo.',
    schema: z.object({ name: z.string(), age: z.int(), city: z.string() }),
  })).object,
};

const outcomes = {};
for (const [name, run] of Object.entries(cases)) {
  try {
    outcomes[name] = { value: await run() };
  } catch (error) {
    outcomes[name] = { error: String(error.stack ?? error) };
  }
}
console.log(JSON.stringify(outcomes));
