//! The schemas of the document. What is read and what is written of a type are two schemas where they
//! differ (`Device`, `DeviceWrite`), and what a merge patch of a record may say is a third (`DevicePatch`).

use std::collections::{BTreeMap, BTreeSet};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::sentences;
use crate::admin::problem;

/// Where schemas stand in the document.
const PLACE: &str = "#/components/schemas/";

/// How a schema that is being gathered says that it is of what is written, or of a patch; [`Schemas::finish`] makes
/// names of that.
const WRITE: &str = "Write";
const PATCH: &str = "Patch";

/// What the document's schemas are gathered in.
#[derive(Debug)]
pub struct Schemas {
    read: SchemaGenerator,
    write: SchemaGenerator,
    /// Members that answers have beside a type's own, by the name of the schema: those that are always
    /// there, and all.
    beside: BTreeMap<String, Map<String, Value>>,
}

impl Default for Schemas {
    fn default() -> Self {
        Self::new()
    }
}

impl Schemas {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            read: settings.clone().for_serialize().into_generator(),
            write: settings.for_deserialize().into_generator(),
            beside: BTreeMap::new(),
        }
    }

    /// The schema of a type as answers show it.
    pub fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    /// The schema of a type as calls write it.
    pub fn write<T: JsonSchema>(&mut self) -> Value {
        marked(self.write.subschema_for::<T>().to_value(), WRITE)
    }

    /// The schema of a merge patch of a type (RFC 7396).
    pub fn patch<T: JsonSchema>(&mut self) -> Value {
        marked(self.write.subschema_for::<T>().to_value(), PATCH)
    }

    /// The schema of a record as answers show it: with the members of `B` as well.
    pub fn record<T: JsonSchema, B: JsonSchema>(&mut self) -> Value {
        let beside = self.read.root_schema_for::<B>().to_value();
        if let Value::Object(beside) = beside {
            self.beside.insert(T::schema_name().into_owned(), beside);
        }
        self.read::<T>()
    }

    /// Puts the schemas into the document, and gives each reference in it the name that its schema has there.
    pub fn finish(mut self, document: &mut Value) {
        let mut read = self.read.take_definitions(true);
        let write = self.write.take_definitions(true);
        for (name, beside) in &self.beside {
            // What stands beside a record was gathered for its members alone.
            if let Some(Value::Object(schema)) = read.get_mut(name) {
                join(schema, beside);
            }
        }
        let write: Map<String, Value> = write
            .into_iter()
            .map(|(name, mut schema)| {
                sets_may_repeat(&mut schema);
                (name, marked(schema, WRITE))
            })
            .collect();
        let differ = differing(&read, &write);
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        let name_of = |name: &str, mark: &str| match mark {
            WRITE if !differ.contains(name) => name.to_owned(),
            mark => format!("{name}{mark}"),
        };
        for (name, mut schema) in read {
            without_null(&mut schema);
            all.insert(name, schema);
        }
        for (name, schema) in &write {
            all.insert(name_of(name, WRITE), schema.clone());
        }
        // What patches name, and what those name.
        let mut wanted = patches(document);
        let mut made = BTreeSet::new();
        while let Some(name) = wanted.pop_first() {
            let Some(schema) = write.get(&name).filter(|_| made.insert(name.clone())) else {
                continue;
            };
            let patch = patch(schema, &write);
            wanted.extend(patches(&patch));
            all.insert(name_of(&name, PATCH), patch);
        }
        let mut all: Map<String, Value> = all.into_iter().collect();
        for schema in all.values_mut() {
            name_references(schema, &name_of);
            tidy(schema);
        }
        name_references(document, &name_of);
        // The kinds of problems are no type that is serialised: their names stand in a text.
        let kinds: Vec<String> = problem::Kind::ALL.iter().map(|kind| kind.urn()).collect();
        if let Some(slot) = all
            .get_mut("Problem")
            .and_then(|schema| schema.pointer_mut("/properties/type"))
        {
            *slot = json!({
                "type": "string",
                "enum": kinds,
                "description": "The kind of problem. The words are stable: a client may go by them.",
            });
        }
        if let Some(Value::Object(components)) = document.pointer_mut("/components") {
            components.insert("schemas".to_owned(), all.into());
        }
    }
}

/// What is a set to us may say a thing twice in a call. A list that must not is a type of its own.
fn sets_may_repeat(schema: &mut Value) {
    if let Some(properties) = schema.get_mut("properties") {
        each_object(properties, &mut |members| {
            members.remove("uniqueItems");
        });
    }
}

/// Marks each reference in a schema; [`name_references`] reads it.
fn marked(mut schema: Value, mark: &str) -> Value {
    each_object(&mut schema, &mut |members| {
        if let Some(Value::String(target)) = members.get_mut("$ref")
            && !target.contains('?')
        {
            target.push('?');
            target.push_str(mark);
        }
    });
    schema
}

fn name_references(schema: &mut Value, name_of: &dyn Fn(&str, &str) -> String) {
    each_object(schema, &mut |members| {
        if let Some(Value::String(target)) = members.get_mut("$ref")
            && let Some((name, mark)) = target.strip_prefix(PLACE).and_then(|t| t.split_once('?'))
        {
            *target = format!("{PLACE}{}", name_of(name, mark));
        }
    });
}

/// Whether a reference is to a schema of this mark, and to which.
fn target<'a>(members: &'a Map<String, Value>, wanted: &str) -> Option<&'a str> {
    let target = members.get("$ref")?.as_str()?.strip_prefix(PLACE)?;
    let (name, mark) = target.split_once('?')?;
    (mark == wanted).then_some(name)
}

fn patches(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut schema = schema.clone();
    each_object(&mut schema, &mut |members| {
        found.extend(target(members, PATCH).map(ToOwned::to_owned));
    });
    found
}

/// Calls `f` for each object in a value, from the outermost inwards.
fn each_object(value: &mut Value, f: &mut dyn FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            f(members);
            for member in members.values_mut() {
                each_object(member, f);
            }
        }
        Value::Array(items) => {
            for item in items {
                each_object(item, f);
            }
        }
        _ => {}
    }
}

/// The names of those types that are written otherwise than they are read, by themselves or by what they hold.
fn differing(read: &Map<String, Value>, write: &Map<String, Value>) -> BTreeSet<String> {
    let plain = |schema: &Value| {
        let mut schema = schema.clone();
        without_null(&mut schema);
        each_object(&mut schema, &mut |members| {
            if let Some(Value::String(target)) = members.get_mut("$ref") {
                let bare = target.split('?').next().unwrap_or_default().to_owned();
                *target = bare;
            }
        });
        schema
    };
    let mut differ: BTreeSet<String> = BTreeSet::new();
    for (name, schema) in write {
        let as_read = read.get(name);
        if as_read.is_some_and(|as_read| plain(as_read) != plain_write(schema)) {
            differ.insert(name.clone());
        }
    }
    loop {
        let before = differ.len();
        for (name, schema) in write {
            let mut schema = schema.clone();
            let mut holds = false;
            each_object(&mut schema, &mut |members| {
                let target = target(members, WRITE);
                holds |= target.is_some_and(|target| differ.contains(target));
            });
            if holds && read.contains_key(name) {
                differ.insert(name.clone());
            }
        }
        if differ.len() == before {
            return differ;
        }
    }
}

/// A schema of what is written, without the marks of its references.
fn plain_write(schema: &Value) -> Value {
    let mut schema = schema.clone();
    each_object(&mut schema, &mut |members| {
        if let Some(Value::String(target)) = members.get_mut("$ref") {
            let bare = target.split('?').next().unwrap_or_default().to_owned();
            *target = bare;
        }
    });
    schema
}

/// Adds the members of one object's schema to another's.
fn join(schema: &mut Map<String, Value>, beside: &Map<String, Value>) {
    if let Some(Value::Object(more)) = beside.get("properties")
        && let Some(Value::Object(properties)) = schema.get_mut("properties")
    {
        for (name, member) in more {
            properties.insert(name.clone(), member.clone());
        }
    }
    let required = |schema: &Map<String, Value>| {
        let list = schema.get("required").and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let mut all = required(beside);
    all.extend(required(schema));
    schema.insert("required".to_owned(), all.into());
}

/// What may be absent from an answer is never null there.
fn without_null(schema: &mut Value) {
    each_object(schema, &mut |members| {
        let required: Vec<String> = members
            .get("required")
            .and_then(Value::as_array)
            .map(|names| {
                names
                    .iter()
                    .filter_map(|n| n.as_str().map(ToOwned::to_owned))
                    .collect()
            })
            .unwrap_or_default();
        if let Some(Value::Object(properties)) = members.get_mut("properties") {
            for (name, property) in properties {
                if !required.contains(name) {
                    not_null(property);
                }
            }
        }
    });
}

/// Takes null out of what a schema allows.
fn not_null(schema: &mut Value) {
    let Value::Object(members) = schema else {
        return;
    };
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            members.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
        choices.retain(|choice| *choice != json!({ "type": "null" }));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            members.remove("anyOf");
            for (name, value) in only {
                members.entry(name).or_insert(value);
            }
        }
    }
}

/// Lets a schema take null as well.
fn or_null(schema: &mut Value) {
    let Value::Object(members) = schema else {
        return;
    };
    let is_enum = members.contains_key("enum");
    match members.get_mut("type") {
        Some(Value::Array(types)) => {
            if !types.iter().any(|name| name == "null") {
                types.push("null".into());
            }
            return;
        }
        Some(Value::String(name)) if !is_enum => {
            let both = json!([name, "null"]);
            members.insert("type".to_owned(), both);
            return;
        }
        _ => {}
    }
    if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
        let null = json!({ "type": "null" });
        if !choices.contains(&null) {
            choices.push(null);
        }
        return;
    }
    let text = members.remove("description");
    let only = std::mem::take(members);
    members.insert("anyOf".to_owned(), json!([only, { "type": "null" }]));
    if let Some(text) = text {
        members.insert("description".to_owned(), text);
    }
}

/// What a merge patch of what a schema describes may say: any part of it, and null for what is to go.
fn patch(schema: &Value, write: &Map<String, Value>) -> Value {
    let mut patch = schema.clone();
    let Value::Object(members) = &mut patch else {
        return patch;
    };
    let required = members.remove("required").unwrap_or_default();
    let is_required = |name: &str| {
        let names = required.as_array();
        names.is_some_and(|names| names.iter().any(|n| n == name))
    };
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for (name, property) in properties {
            // Absent it stays as it is, whatever it would be in a new record.
            if let Value::Object(property) = property {
                property.remove("default");
            }
            merged(property, write);
            if !is_required(name) {
                or_null(property);
            }
        }
    }
    any_members(members, write);
    // What is taken away does not count: how many are left shows only in the record.
    each_object(&mut patch, &mut |members| {
        members.remove("maxProperties");
    });
    patch
}

/// Makes references to objects those to patches of them, since they are merged member by member; a list is replaced.
fn merged(schema: &mut Value, write: &Map<String, Value>) {
    let Value::Object(members) = schema else {
        return;
    };
    if let Some(name) = target(members, WRITE) {
        let is_object = write
            .get(name)
            .is_some_and(|schema| schema["type"] == "object");
        if is_object {
            let target = format!("{PLACE}{name}?{PATCH}");
            members.insert("$ref".to_owned(), target.into());
        }
        return;
    }
    if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
        for choice in choices {
            merged(choice, write);
        }
    }
    any_members(members, write);
}

/// The same of the members that an object has under names of the caller's: each is merged, or taken away.
fn any_members(members: &mut Map<String, Value>, write: &Map<String, Value>) {
    let others = members.get("additionalProperties");
    let others = others.filter(|values| values.is_object()).cloned();
    let named = members
        .get("patternProperties")
        .and_then(Value::as_object)
        .cloned();
    let or_gone = |mut values: Value| {
        merged(&mut values, write);
        or_null(&mut values);
        values
    };
    if let Some(values) = others {
        members.insert("additionalProperties".to_owned(), or_gone(values));
    }
    if let Some(patterns) = named {
        let patterns = patterns
            .into_iter()
            .map(|(pattern, values)| (pattern, or_gone(values)));
        let patterns: Map<String, Value> = patterns.collect();
        members.insert("patternProperties".to_owned(), patterns.into());
    }
}

/// What the derive leaves that is of no use to a reader: sizes of integers in Rust's words, links into the
/// code, and defaults that are null.
fn tidy(schema: &mut Value) {
    each_object(schema, &mut |members| {
        let sized = |format: &Value| {
            let format = format.as_str().unwrap_or_default();
            format.starts_with("uint") || format.starts_with("int")
        };
        if members.get("format").is_some_and(sized) {
            members.remove("format");
        }
        if members.get("default").is_some_and(Value::is_null) {
            members.remove("default");
        }
        if let Some(Value::String(text)) = members.get_mut("description") {
            *text = sentences(text);
        }
    });
}
