//! Lists and objects.

use serde_json::{Map, Value};

use super::logic::equal;
use super::{Arguments, Function, MANY, function, lenient};
use crate::scope::View;
use crate::suggest::{cut, hint};
use crate::template::error::Fault;
use crate::template::value::{Field, Val, text_of};

type Answer<'s> = Result<Val<'s>, Fault>;

/// Items that `until` and `seq` make at most.
const COUNT_MAX: i64 = 10_000;

pub(super) static TABLE: &[Function] = &[
    function("index", "VALUE KEY...", 1, MANY, index),
    lenient("get", "OBJECT KEY", 2, 2, get),
    lenient("hasKey", "OBJECT KEY", 2, 2, has_key),
    function("len", "VALUE", 1, 1, len),
    function("list", "ITEM...", 0, MANY, list),
    function("dict", "KEY VALUE...", 0, MANY, dict),
    function("set", "OBJECT KEY VALUE", 3, 3, set),
    function("unset", "OBJECT KEY", 2, 2, omit),
    function("pick", "OBJECT KEY...", 1, MANY, pick),
    function("omit", "OBJECT KEY...", 1, MANY, omit),
    function("merge", "OBJECT OBJECT...", 1, MANY, merge),
    function("keys", "OBJECT", 1, 1, keys),
    function("values", "OBJECT", 1, 1, values),
    function("pluck", "KEY LIST", 2, 2, pluck),
    function("first", "LIST", 1, 1, first),
    function("last", "LIST", 1, 1, last),
    function("rest", "LIST", 1, 1, rest),
    function("initial", "LIST", 1, 1, initial),
    function("slice", "LIST FROM TO", 1, 3, slice),
    function("append", "LIST ITEM", 2, 2, append),
    function("prepend", "LIST ITEM", 2, 2, prepend),
    function("concat", "LIST...", 1, MANY, concat),
    function("reverse", "LIST", 1, 1, reverse),
    function("uniq", "LIST", 1, 1, uniq),
    function("without", "LIST ITEM...", 1, MANY, without),
    function("has", "ITEM LIST", 2, 2, has),
    function("sortAlpha", "LIST", 1, 1, sort_alpha),
    function("compact", "LIST", 1, 1, compact),
    function("until", "COUNT", 1, 1, until),
];

/// Follows keys and positions.
fn index<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut at = arguments.take(0);
    for position in 1..arguments.count() {
        let key = arguments.copy(position)?;
        at = step(arguments, &at, &key)?;
    }
    Ok(at)
}

fn step<'s>(arguments: &mut Arguments<'_, 's>, at: &Val<'s>, key: &Value) -> Answer<'s> {
    let items = match at {
        Val::View(View::Json(Value::Array(items))) => Some(items),
        Val::Made(value) => value.as_array(),
        Val::View(_) => None,
    };
    match (items, key) {
        (Some(items), Value::Number(_)) => {
            let found = key.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < items.len());
            let Some(found) = found else {
                return Err(Fault::missing(format!(
                    "`index`: there is no item {key}; the list has {} items, counted from 0",
                    items.len()
                )));
            };
            match at {
                Val::View(View::Json(Value::Array(items))) => Ok(Val::View(View::Json(&items[found]))),
                _ => Val::copied(&items[found], arguments.budget),
            }
        }
        (Some(_), _) => Err(arguments.fault("an item of a list is found by its position, an integer from 0")),
        (None, Value::String(name)) => match at.field(name, arguments.budget)? {
            Field::Found(found) => Ok(found),
            Field::Missing => {
                let names = at.names();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let hint = hint(name, "keys there", &names);
                Err(Fault::missing(format!("`index`: the object has no `{}`; {hint}", cut(name))))
            }
            Field::NotAnObject(found) => Err(arguments.fault(&format!("{found} has no parts"))),
        },
        (None, _) => Err(arguments.fault(&format!("{} has no item {key}", at.type_name()))),
    }
}

fn lookup<'s>(arguments: &mut Arguments<'_, 's>) -> Result<Option<Val<'s>>, Fault> {
    let key = arguments.text(1)?;
    let object = arguments.take(0);
    match object.field(&key, arguments.budget)? {
        Field::Found(found) => Ok(Some(found)),
        // An object that is not there has no keys.
        Field::Missing | Field::NotAnObject("null") => Ok(None),
        Field::NotAnObject(found) => Err(arguments.wrong_type(0, "an object", found)),
    }
}

/// The field, or null.
fn get<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(lookup(arguments)?.unwrap_or_else(Val::null))
}

fn has_key<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(Val::from(Value::Bool(lookup(arguments)?.is_some())))
}

fn len<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let length = match &arguments.values[0] {
        Val::View(View::Map(fields)) => Some(fields.len()),
        Val::View(View::Json(value)) => length(value),
        Val::Made(value) => length(value),
    };
    length.map(|length| Val::from(Value::from(length))).ok_or_else(|| arguments.wrong(0, "a list, an object or a text"))
}

/// Characters of a text, not bytes.
fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.chars().count()),
        Value::Array(items) => Some(items.len()),
        Value::Object(fields) => Some(fields.len()),
        _ => None,
    }
}

fn list<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let items = (0..arguments.count()).map(|at| arguments.copy(at)).collect::<Result<_, _>>()?;
    arguments.made(Value::Array(items))
}

fn dict<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    if arguments.count() % 2 == 1 {
        return Err(arguments.fault("each key needs a value"));
    }
    let mut object = Map::new();
    for at in (0..arguments.count()).step_by(2) {
        let key = arguments.text(at)?;
        object.insert(key, arguments.copy(at + 1)?);
    }
    arguments.made(Value::Object(object))
}

/// A new object; the argument stays as it is.
fn set<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut object = arguments.object(0)?;
    object.insert(arguments.text(1)?, arguments.copy(2)?);
    arguments.made(Value::Object(object))
}

fn key_arguments(arguments: &mut Arguments<'_, '_>) -> Result<Vec<String>, Fault> {
    (1..arguments.count()).map(|at| arguments.text(at)).collect()
}

fn pick<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (mut object, keys) = (arguments.object(0)?, key_arguments(arguments)?);
    object.retain(|name, _| keys.contains(name));
    arguments.made(Value::Object(object))
}

fn omit<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (mut object, keys) = (arguments.object(0)?, key_arguments(arguments)?);
    object.retain(|name, _| !keys.contains(name));
    arguments.made(Value::Object(object))
}

/// The first object that has a key wins, as in Sprig.
fn merge<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut merged = arguments.object(0)?;
    for at in 1..arguments.count() {
        for (name, value) in arguments.object(at)? {
            merged.entry(name).or_insert(value);
        }
    }
    arguments.made(Value::Object(merged))
}

/// Sorted, so that the answer does not depend on how the object was made.
fn keys<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let object = arguments.object(0)?;
    let mut names: Vec<String> = object.into_iter().map(|(name, _)| name).collect();
    names.sort();
    arguments.made(Value::from(names))
}

/// In the order of the sorted keys.
fn values<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut fields: Vec<(String, Value)> = arguments.object(0)?.into_iter().collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    arguments.made(Value::Array(fields.into_iter().map(|(_, value)| value).collect()))
}

/// The field of each object of a list that has it.
fn pluck<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (key, items) = (arguments.text(0)?, arguments.list(1)?);
    let found = items.into_iter().filter_map(|mut item| item.get_mut(&key).map(Value::take)).collect();
    arguments.made(Value::Array(found))
}

fn end<'s>(arguments: &mut Arguments<'_, 's>, of: fn(&[Value]) -> Option<&Value>) -> Answer<'s> {
    let value = arguments.take(0);
    match &value {
        Val::View(View::Json(Value::Array(items))) => {
            Ok(of(items).map_or_else(Val::null, |item| Val::View(View::Json(item))))
        }
        Val::Made(made) => match made.as_array() {
            Some(items) => of(items).map_or_else(|| Ok(Val::null()), |item| Val::copied(item, arguments.budget)),
            None => Err(arguments.wrong_type(0, "a list", value.type_name())),
        },
        Val::View(_) => Err(arguments.wrong_type(0, "a list", value.type_name())),
    }
}

/// The first item, or null.
fn first<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    end(arguments, <[Value]>::first)
}

fn last<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    end(arguments, <[Value]>::last)
}

fn rest<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let items = arguments.list(0)?;
    arguments.made(Value::Array(items.into_iter().skip(1).collect()))
}

fn initial<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut items = arguments.list(0)?;
    items.pop();
    arguments.made(Value::Array(items))
}

fn slice<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let items = arguments.list(0)?;
    let from = if arguments.count() > 1 { arguments.integer(1)? } else { 0 };
    let to = if arguments.count() > 2 { arguments.integer(2)? } else { i64::try_from(items.len()).unwrap_or(i64::MAX) };
    let bounds = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    let Some(part) = bounds.and_then(|(from, to)| items.get(from..to)) else {
        return Err(
            arguments.fault(&format!("there is no part from {from} to {to}; the list has {} items", items.len()))
        );
    };
    arguments.made(Value::from(part))
}

fn append<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut items = arguments.list(0)?;
    items.push(arguments.copy(1)?);
    arguments.made(Value::Array(items))
}

fn prepend<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut items = arguments.list(0)?;
    items.insert(0, arguments.copy(1)?);
    arguments.made(Value::Array(items))
}

fn concat<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut all = Vec::new();
    for at in 0..arguments.count() {
        all.append(&mut arguments.list(at)?);
    }
    arguments.made(Value::Array(all))
}

fn reverse<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut items = arguments.list(0)?;
    items.reverse();
    arguments.made(Value::Array(items))
}

fn compact<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut items = arguments.list(0)?;
    items.retain(crate::template::value::truthy);
    arguments.made(Value::Array(items))
}

fn uniq<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut kept: Vec<Value> = Vec::new();
    for item in arguments.list(0)? {
        // Every item is compared with those that were kept.
        arguments.budget.step(1 + kept.len() as u64 / 8)?;
        if !kept.iter().any(|known| equal(known, &item)) {
            kept.push(item);
        }
    }
    arguments.made(Value::Array(kept))
}

fn without<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut items = arguments.list(0)?;
    for at in 1..arguments.count() {
        let unwanted = arguments.copy(at)?;
        arguments.budget.step(items.len() as u64 / 8)?;
        items.retain(|item| !equal(item, &unwanted));
    }
    arguments.made(Value::Array(items))
}

fn has<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (wanted, items) = (arguments.copy(0)?, arguments.list(1)?);
    Ok(Val::from(Value::Bool(items.iter().any(|item| equal(item, &wanted)))))
}

/// Sorted as texts.
fn sort_alpha<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let items = arguments.list(0)?;
    let mut texts: Vec<String> = items.iter().map(|item| text_of(item).into_owned()).collect();
    texts.sort();
    arguments.made(Value::from(texts))
}

/// 0, 1, 2 up to, and without, COUNT.
fn until<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let count = arguments.integer(0)?;
    if !(0..=COUNT_MAX).contains(&count) {
        return Err(arguments.fault(&format!("COUNT must be 0 to {COUNT_MAX} and is {count}")));
    }
    arguments.made(Value::from((0..count).collect::<Vec<_>>()))
}
