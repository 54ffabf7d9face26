//! Other people's clients through `inference.local`: each holds a streamed conversation with a
//! tool call, with nothing set but the base URL and what `portcullis env` prints.

use crate::clients_kit::{Program, program, scratch, write};
use crate::common::Gateway;
use crate::inference_kit::{self, Did, PLACEHOLDER, Provider, gateway};
use std::path::{Path, PathBuf};

/// Where the SDKs are, if they were installed: `python` (a virtual environment) and `node`.
fn sdks() -> PathBuf {
    match std::env::var_os("PORTCULLIS_TEST_SDKS") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdks"),
    }
}

/// Whether a file of an SDK is there; if not, the test says so and is counted as skipped.
fn installed(name: &str, path: &Path) -> bool {
    let found = path.exists();
    if !found {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// A gateway with a route for each provider, and the provider behind all of them.
fn served() -> (Provider, Gateway) {
    let provider = Provider::tls_instead(|ask, out| {
        // Claude Code asks first whether anybody is there.
        if ask.method == "HEAD" {
            let answer = out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            return if answer.is_ok() { Did::Answered } else { Did::HungUp };
        }
        Did::Nothing
    });
    let routes = format!(
        "    routes:\n      - {{ match: \"claude-*\", provider: anthropic, endpoint: \"{base}\", credential: key }}\n      \
         - {{ match: \"gemini-*\", provider: gemini, endpoint: \"{base}\", credential: key }}\n      \
         - {{ match: \"qwen*\", provider: ollama, endpoint: \"{base}\", credential: key }}\n      \
         - {{ provider: openai, endpoint: \"{base}/v1\", credential: key, models: [gpt-5] }}\n    \
         aliases: {{ fast: gpt-5 }}\n",
        base = provider.https(""),
    );
    let gateway = gateway(&routes);
    (provider, gateway)
}

/// A script of Python with the packages that were installed for the tests.
fn python(gateway: &Gateway, package: &str, dir: &Path) -> Option<Program> {
    let home = sdks().join("python");
    let packages = std::fs::read_dir(home.join("lib")).ok().and_then(|mut all| all.next());
    let packages = packages.map(|each| each.unwrap().path().join("site-packages"));
    let packages = packages.unwrap_or_else(|| home.clone());
    if !installed(&format!("{package} (pip)"), &packages.join(package)) {
        return None;
    }
    Some(program(gateway, "python3", dir)?.env("PYTHONPATH", &packages))
}

fn node(gateway: &Gateway, package: &str, dir: &Path) -> Option<Program> {
    let modules = sdks().join("node/node_modules");
    if !installed(&format!("{package} (npm)"), &modules.join(package))
        || !installed("undici (npm)", &modules.join("undici"))
    {
        return None;
    }
    Some(program(gateway, "node", dir)?.env("NODE_PATH", &modules))
}

/// What became of it: the provider saw both turns, and the records say what they cost.
#[track_caller]
fn told(
    provider: &Provider,
    gateway: &Gateway,
    said: &str,
    (path, input, output): (&str, u64, u64),
) {
    assert!(said.contains("weather({\"city\": \"Paris\"})"), "{said}");
    assert!(said.contains("It is sunny."), "{said}");
    let turns = provider.asks().iter().filter(|ask| ask.target.contains(path)).count();
    assert_eq!(turns, 2, "{said}");
    let records = gateway.records(2);
    let paid: Vec<_> = records.iter().filter(|r| r["tokens"].is_object()).collect();
    assert_eq!(paid.len(), 2, "{records:#?}");
    for record in paid {
        assert_eq!(record["tokens"]["input"], input, "{record:#}");
        assert_eq!(record["tokens"]["output"], output, "{record:#}");
        assert_eq!(record["outcome"], "passed");
    }
}

const OPENAI_PY: &str = r#"
import json, sys, openai
client = openai.OpenAI(base_url="https://inference.local/v1", api_key=sys.argv[1])
tools = [{"type": "function", "function": {"name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
for turn in range(2):
    text, name, arguments = "", None, ""
    for chunk in client.chat.completions.create(model="fast", messages=messages, tools=tools,
            stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                name = call.function.name or name
                arguments += call.function.arguments or ""
    if name:
        print(f"{name}({json.dumps(json.loads(arguments))})")
        messages.append({"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function",
            "function": {"name": name, "arguments": arguments}}]})
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": "sunny"})
    else:
        print(text)
print([model.id for model in client.models.list()])
try:
    client.chat.completions.create(model="gpt-4", messages=messages)
except openai.NotFoundError as error:
    print("refused:", error.code, error.type)
"#;

#[test]
fn openais_python_package() {
    let (provider, gateway) = served();
    let dir = scratch();
    let Some(python) = python(&gateway, "openai", dir.path()) else { return };
    let said = python.args(["-c", OPENAI_PY, PLACEHOLDER]).run().passed();
    told(&provider, &gateway, &said, ("/v1/chat/completions", 11, 7));
    assert!(said.contains("'gpt-5'") && said.contains("'fast'"), "{said}");
    assert!(said.contains("refused: model_not_allowed invalid_request_error"), "{said}");
}

const RESPONSES_PY: &str = r#"
import json, sys, openai
client = openai.OpenAI(base_url="https://inference.local/v1", api_key=sys.argv[1])
tools = [{"type": "function", "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]
said = [{"role": "user", "content": "What is the weather in Paris?"}]
for turn in range(2):
    for event in client.responses.create(model="gpt-5", input=said, tools=tools, stream=True):
        if event.type == "response.output_item.done" and event.item.type == "function_call":
            print(f"{event.item.name}({json.dumps(json.loads(event.item.arguments))})")
            said.append({"type": "function_call_output", "call_id": event.item.call_id, "output": "sunny"})
        elif event.type == "response.output_text.delta":
            print(event.delta)
"#;

#[test]
fn openais_responses() {
    let (provider, gateway) = served();
    let dir = scratch();
    let Some(python) = python(&gateway, "openai", dir.path()) else { return };
    let said = python.args(["-c", RESPONSES_PY, PLACEHOLDER]).run().passed();
    told(&provider, &gateway, &said, ("/v1/responses", 6, 4));
}

const ANTHROPIC_PY: &str = r#"
import json, sys, anthropic
client = anthropic.Anthropic(base_url="https://inference.local", api_key=sys.argv[1])
tools = [{"name": "weather", "input_schema": {"type": "object",
    "properties": {"city": {"type": "string"}}}}]
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
for turn in range(2):
    with client.messages.stream(model="claude-opus", max_tokens=100, messages=messages,
            tools=tools) as stream:
        for text in stream.text_stream:
            print(text)
        message = stream.get_final_message()
    for block in message.content:
        if block.type == "tool_use":
            print(f"{block.name}({json.dumps(block.input)})")
            messages.append({"role": "assistant", "content": message.content})
            messages.append({"role": "user", "content": [{"type": "tool_result",
                "tool_use_id": block.id, "content": "sunny"}]})
print([model.id for model in client.models.list()])
try:
    client.messages.create(model="gpt-5", max_tokens=1, messages=messages)
except anthropic.NotFoundError as error:
    print("refused:", error.body["error"]["type"])
"#;

#[test]
fn anthropics_python_package() {
    let (provider, gateway) = served();
    let dir = scratch();
    let Some(python) = python(&gateway, "anthropic", dir.path()) else { return };
    let said = python.args(["-c", ANTHROPIC_PY, PLACEHOLDER]).run().passed();
    told(&provider, &gateway, &said, ("/v1/messages", 12, 8));
    assert!(said.contains("'claude-opus'"), "{said}");
    assert!(said.contains("refused: not_found_error"), "{said}");
}

const GENAI_PY: &str = r#"
import json, sys
from google import genai
from google.genai import types, errors
client = genai.Client(api_key=sys.argv[1], http_options=types.HttpOptions(
    base_url="https://inference.local"))
tools = [types.Tool(function_declarations=[types.FunctionDeclaration(name="weather",
    parameters=types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")}))])]
config = types.GenerateContentConfig(tools=tools,
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True))
said = [types.Content(role="user", parts=[types.Part(text="What is the weather in Paris?")])]
for turn in range(2):
    for chunk in client.models.generate_content_stream(model="gemini-3", contents=said,
            config=config):
        for part in chunk.candidates[0].content.parts:
            if part.function_call:
                print(f"{part.function_call.name}({json.dumps(part.function_call.args)})")
                said.append(types.Content(role="model", parts=[part]))
                said.append(types.Content(role="user", parts=[types.Part.from_function_response(
                    name="weather", response={"result": "sunny"})]))
            elif part.text:
                print(part.text)
try:
    client.models.generate_content(model="other", contents="hello")
except errors.APIError as error:
    print("refused:", error.code, error.status)
"#;

#[test]
fn googles_genai_python_package() {
    let (provider, gateway) = served();
    let dir = scratch();
    let Some(python) = python(&gateway, "google/genai", dir.path()) else { return };
    let said = python.args(["-c", GENAI_PY, PLACEHOLDER]).run().passed();
    told(&provider, &gateway, &said, (":streamGenerateContent", 13, 9));
    assert!(said.contains("refused: 404 NOT_FOUND"), "{said}");
}

const OLLAMA_PY: &str = r#"
import json, sys, ollama
client = ollama.Client(host="https://inference.local")
tools = [{"type": "function", "function": {"name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
for turn in range(2):
    for part in client.chat(model="qwen3", messages=messages, tools=tools, stream=True):
        for call in part.message.tool_calls or []:
            print(f"{call.function.name}({json.dumps(dict(call.function.arguments))})")
            messages.append(part.message)
            messages.append({"role": "tool", "tool_name": "weather", "content": "sunny"})
        if part.message.content:
            print(part.message.content)
print([model.model for model in client.list().models])
try:
    client.pull("qwen3")
except ollama.ResponseError as error:
    print("refused:", error.status_code)
"#;

#[test]
fn ollamas_python_package() {
    let (provider, gateway) = served();
    let dir = scratch();
    let Some(python) = python(&gateway, "ollama", dir.path()) else { return };
    let said = python.args(["-c", OLLAMA_PY]).run().passed();
    told(&provider, &gateway, &said, ("/api/chat", 14, 10));
    assert!(said.contains("'qwen3:8b'"), "{said}");
    assert!(said.contains("refused: 404"), "{said}");
}

const OPENAI_JS: &str = r#"
const OpenAI = require('openai'), undici = require('undici');
const dispatcher = new undici.ProxyAgent({uri: process.env.https_proxy});
const client = new OpenAI({baseURL: 'https://inference.local/v1', apiKey: process.argv[1],
  fetch: undici.fetch, fetchOptions: {dispatcher}});
const tools = [{type: 'function', function: {name: 'weather',
  parameters: {type: 'object', properties: {city: {type: 'string'}}}}}];
const messages = [{role: 'user', content: 'What is the weather in Paris?'}];
(async () => {
  for (let turn = 0; turn < 2; turn++) {
    let text = '', name, args = '';
    const stream = await client.chat.completions.create({model: 'gpt-5', messages, tools,
      stream: true, stream_options: {include_usage: true}});
    for await (const chunk of stream) for (const choice of chunk.choices) {
      text += choice.delta.content ?? '';
      for (const call of choice.delta.tool_calls ?? []) {
        name = call.function.name ?? name;
        args += call.function.arguments ?? '';
      }
    }
    if (!name) { console.log(text); break; }
    console.log(`${name}({"city": "${JSON.parse(args).city}"})`);
    messages.push({role: 'assistant', tool_calls: [{id: 'call_1', type: 'function',
      function: {name, arguments: args}}]}, {role: 'tool', tool_call_id: 'call_1', content: 'sunny'});
  }
  await dispatcher.close();
})().catch(e => { console.error(e); process.exitCode = 1 });
"#;

#[test]
fn openais_node_package() {
    let (provider, gateway) = served();
    let dir = scratch();
    let Some(node) = node(&gateway, "openai", dir.path()) else { return };
    let said = node.args(["-e", OPENAI_JS, PLACEHOLDER]).run().passed();
    told(&provider, &gateway, &said, ("/v1/chat/completions", 11, 7));
}

const ANTHROPIC_JS: &str = r#"
const Anthropic = require('@anthropic-ai/sdk'), undici = require('undici');
const dispatcher = new undici.ProxyAgent({uri: process.env.https_proxy});
const client = new Anthropic({baseURL: 'https://inference.local', apiKey: process.argv[1],
  fetch: undici.fetch, fetchOptions: {dispatcher}});
const tools = [{name: 'weather', input_schema: {type: 'object',
  properties: {city: {type: 'string'}}}}];
const messages = [{role: 'user', content: 'What is the weather in Paris?'}];
(async () => {
  for (let turn = 0; turn < 2; turn++) {
    const stream = client.messages.stream({model: 'claude-opus', max_tokens: 100, messages, tools});
    const message = await stream.finalMessage();
    for (const block of message.content) {
      if (block.type === 'text') console.log(block.text);
      if (block.type !== 'tool_use') continue;
      console.log(`${block.name}({"city": "${block.input.city}"})`);
      messages.push({role: 'assistant', content: message.content}, {role: 'user', content: [
        {type: 'tool_result', tool_use_id: block.id, content: 'sunny'}]});
    }
  }
  await dispatcher.close();
})().catch(e => { console.error(e); process.exitCode = 1 });
"#;

#[test]
fn anthropics_node_package() {
    let (provider, gateway) = served();
    let dir = scratch();
    let Some(node) = node(&gateway, "@anthropic-ai/sdk", dir.path()) else { return };
    let said = node.args(["-e", ANTHROPIC_JS, PLACEHOLDER]).run().passed();
    told(&provider, &gateway, &said, ("/v1/messages", 12, 8));
}

/// A program of npm's that was installed for the tests.
fn agent(gateway: &Gateway, name: &str, dir: &Path) -> Option<Program> {
    let bin = sdks().join("node/node_modules/.bin").join(name);
    if !installed(&format!("{name} (npm)"), &bin) {
        return None;
    }
    program(gateway, bin.to_str().unwrap(), dir)
}

#[test]
fn claude_code_holds_a_conversation_with_a_tool() {
    let (provider, gateway) = served();
    let dir = scratch();
    write(dir.path().join("note.txt"), "sunny");
    let Some(claude) = agent(&gateway, "claude", dir.path()) else { return };
    let said = claude
        .env("ANTHROPIC_BASE_URL", "https://inference.local")
        .env("ANTHROPIC_API_KEY", PLACEHOLDER)
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("DISABLE_AUTOUPDATER", "1")
        .args(["-p", "What is the weather?", "--model", "claude-opus", "--output-format", "text"])
        .run()
        .passed();
    assert!(said.contains("It is sunny."), "{said}");
    conversed(&provider, &gateway, "/v1/messages", "tool_result");
}

#[test]
fn codex_holds_a_conversation_with_a_tool() {
    let (provider, gateway) = served();
    let dir = scratch();
    let Some(codex) = agent(&gateway, "codex", dir.path()) else { return };
    let served = "{name=\"portcullis\",base_url=\"https://inference.local/v1\",env_key=\"OPENAI_API_KEY\",wire_api=\"responses\"}";
    let said = codex
        .env("OPENAI_API_KEY", PLACEHOLDER)
        .env("CODEX_HOME", dir.path())
        .args(["exec", "--skip-git-repo-check", "-m", "gpt-5"])
        .args(["-c", "model_provider=\"portcullis\"", "-c"])
        .args([format!("model_providers.portcullis={served}")])
        .args(["What is the weather?"])
        .run()
        .passed();
    assert!(said.contains("It is sunny."), "{said}");
    conversed(&provider, &gateway, "/v1/responses", "function_call_output");
}

/// An agent streamed, called a tool and sent back what came of it, all of it under the key.
#[track_caller]
fn conversed(provider: &Provider, gateway: &Gateway, path: &str, result: &str) {
    let asks = provider.asks();
    let asks: Vec<_> = asks.iter().filter(|ask| ask.target.starts_with(path)).collect();
    let streamed = |ask: &&&inference_kit::Ask| ask.json()["stream"] == serde_json::json!(true);
    let back = asks.iter().filter(streamed).find(|ask| ask.body.contains(result));
    assert!(back.is_some(), "no tool was called: {asks:#?}");
    let records = gateway.records(2);
    let costs = |r: &&serde_json::Value| r["tokens"]["output"].as_u64().is_some_and(|n| n > 0);
    assert!(records.iter().filter(costs).count() >= 2, "{records:#?}");
}
