//! The API's description (OpenAPI 3.1), made of the table of routes and the types of the wire.

use super::route::{Does, ROUTES, Route};
use crate::control::wire::{
    Apply, Changed, Credential, CredentialCheck, Decided, Decision, EffectivePolicy, Event, Filter,
    Grant, GrantRequest, Inference, Listen, PolicyVersion, Probe, Problem, Request, Rollback,
    SandboxStatus, SetInference, Status, Undo,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The whole description.
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation;
    }
    let mut components = schemas.take_definitions(true);
    components.sort_keys();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portcullis control API",
            "version": "1",
            "description": "HTTP/1.1 over the gateway's Unix socket, for the gateway's own user and \
                root. Errors are RFC 9457 problems. Bodies are at most 1 MiB.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://portcullis", "description": "the Unix socket; the name is not used" }],
        "paths": paths,
        "components": { "schemas": components },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": format!("{:?}", route.does).to_lowercase(),
        "summary": route.summary,
        "responses": {
            "200": gives(route.does, schemas),
            "default": {
                "description": "It is refused.",
                "content": { "application/problem+json": { "schema": of::<Problem>(schemas) } },
            },
        },
    });
    let mut parameters = in_path(route.path);
    parameters.extend(in_query(route.does, schemas));
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = takes(route.does, schemas) {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": body } } });
    }
    operation
}

fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

fn gives(does: Does, schemas: &mut SchemaGenerator) -> Value {
    let schema = match does {
        Does::Status => of::<Status>(schemas),
        Does::Events => return events(schemas),
        Does::Sandboxes => of::<Vec<SandboxStatus>>(schemas),
        Does::Sandbox => of::<SandboxStatus>(schemas),
        Does::SandboxGrants | Does::Grants => of::<Vec<Grant>>(schemas),
        Does::Policy => of::<EffectivePolicy>(schemas),
        Does::Apply | Does::Rollback | Does::Unpin | Does::Reload => of::<Changed>(schemas),
        Does::Requests => of::<Vec<Request>>(schemas),
        Does::Request | Does::Undo => of::<Request>(schemas),
        Does::Decide => of::<Decided>(schemas),
        Does::Grant | Does::Revoke => of::<Grant>(schemas),
        Does::History => of::<Vec<PolicyVersion>>(schemas),
        Does::Inference | Does::SetInference | Does::UnsetInference => of::<Inference>(schemas),
        Does::Probe => of::<Vec<Probe>>(schemas),
        Does::Credentials | Does::SandboxCredentials => of::<Vec<Credential>>(schemas),
        Does::TestCredential | Does::RefreshCredential => of::<CredentialCheck>(schemas),
    };
    json!({ "description": "Done.", "content": { "application/json": { "schema": schema } } })
}

fn events(schemas: &mut SchemaGenerator) -> Value {
    json!({
        "description": "Events until the client leaves or the gateway stops. `event:` is the \
            schema's `event`, `data:` its `data` as one line of JSON; a comment at least every 15 \
            seconds. A reader that is too slow is told `missed`, and reads the lists again.",
        "content": { "text/event-stream": { "schema": of::<Event>(schemas) } },
    })
}

fn takes(does: Does, schemas: &mut SchemaGenerator) -> Option<Value> {
    match does {
        Does::Apply => Some(of::<Apply>(schemas)),
        Does::Rollback => Some(of::<Rollback>(schemas)),
        Does::Decide => Some(of::<Decision>(schemas)),
        Does::Grant => Some(of::<GrantRequest>(schemas)),
        Does::SetInference => Some(of::<SetInference>(schemas)),
        Does::Status
        | Does::Events
        | Does::Sandboxes
        | Does::Sandbox
        | Does::SandboxGrants
        | Does::Policy
        | Does::Unpin
        | Does::Requests
        | Does::Request
        | Does::Undo
        | Does::Grants
        | Does::Revoke
        | Does::History
        | Does::Inference
        | Does::UnsetInference
        | Does::Probe
        | Does::SandboxCredentials
        | Does::Credentials
        | Does::TestCredential
        | Does::RefreshCredential
        | Does::Reload => None,
    }
}

fn in_path(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect()
}

/// The keys of the query: the properties of the type that it is read as.
fn in_query(does: Does, schemas: &mut SchemaGenerator) -> Vec<Value> {
    let keys = match does {
        Does::Events => properties::<Listen>(schemas),
        Does::Requests => properties::<Filter>(schemas),
        Does::Undo => properties::<Undo>(schemas),
        Does::Grants | Does::History => {
            let mut keys = properties::<Filter>(schemas);
            keys.retain(|name, _| name == "sandbox");
            keys
        }
        Does::Status
        | Does::Sandboxes
        | Does::Sandbox
        | Does::SandboxGrants
        | Does::Policy
        | Does::Apply
        | Does::Rollback
        | Does::Unpin
        | Does::Request
        | Does::Decide
        | Does::Grant
        | Does::Revoke
        | Does::Inference
        | Does::SetInference
        | Does::UnsetInference
        | Does::Probe
        | Does::SandboxCredentials
        | Does::Credentials
        | Does::TestCredential
        | Does::RefreshCredential
        | Does::Reload => Map::new(),
    };
    keys.into_iter()
        .map(|(name, mut schema)| {
            let description = schema.as_object_mut().and_then(|keys| keys.remove("description"));
            json!({ "name": name, "in": "query", "description": description, "schema": schema })
        })
        .collect()
}

fn properties<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Map<String, Value> {
    let mut schema = T::json_schema(schemas).to_value();
    match schema["properties"].take() {
        Value::Object(properties) => properties,
        _ => Map::new(),
    }
}
