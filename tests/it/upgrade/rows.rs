//! What is stored, as text: a SQLite file as SQL, tables as their rows.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::{Value, json};

use crate::azurite;

const TABLES_VERSION: &str = "2019-02-02";

/// A file as the SQL that makes it.
pub fn dump(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
    let mut sql = String::new();
    for pragma in ["application_id", "user_version"] {
        writeln!(sql, "PRAGMA {pragma} = {};", number(pragma)).unwrap();
    }
    let list = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type = 'index', rowid";
    let mut schema = connection.prepare(list).unwrap();
    let things: Vec<(String, String, String)> =
        schema.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().map(Result::unwrap).collect();
    for (kind, name, create) in &things {
        writeln!(sql, "{create};").unwrap();
        if kind != "table" {
            continue;
        }
        let mut columns = connection.prepare(&format!("SELECT name FROM pragma_table_info('{name}')")).unwrap();
        let columns: Vec<String> = columns.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let quoted: Vec<_> = columns.iter().map(|column| format!("quote({column})")).collect();
        let mut all = connection.prepare(&format!("SELECT {} FROM {name}", quoted.join(" || ',' || "))).unwrap();
        for row in all.query_map([], |row| row.get::<_, String>(0)).unwrap() {
            writeln!(sql, "INSERT INTO {name} VALUES ({});", row.unwrap()).unwrap();
        }
    }
    sql
}

/// Makes the file, each `body` as `change` makes it.
pub fn restore(path: &Path, sql: &str, change: &impl Fn(String) -> String) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(&format!("BEGIN;\n{sql}\nCOMMIT;")).unwrap();
    let tables = "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'body'";
    let tables: Vec<String> =
        connection.prepare(tables).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for table in tables {
        let mut bodies = connection.prepare(&format!("SELECT DISTINCT body FROM {table}")).unwrap();
        let bodies: Vec<Cell> = bodies.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        for body in bodies {
            let changed = match &body {
                Cell::Text(text) => Cell::Text(change(text.clone())),
                Cell::Blob(bytes) => Cell::Blob(change(String::from_utf8(bytes.clone()).unwrap()).into_bytes()),
                _ => continue,
            };
            let update = format!("UPDATE {table} SET body = ?1 WHERE body = ?2");
            connection.execute(&update, [&changed, &body]).unwrap();
        }
    }
}

/// Every row of the tables whose names begin so, by what follows.
pub async fn all(prefix: &str) -> BTreeMap<String, Value> {
    let names = ask(reqwest::Method::GET, "Tables", None).await;
    let names = names["value"].as_array().unwrap().iter().map(|table| table["TableName"].as_str().unwrap().to_owned());
    let mut all = BTreeMap::new();
    for name in names.filter(|name| name.starts_with(prefix)) {
        let mut rows = ask(reqwest::Method::GET, &format!("{name}()"), None).await["value"].take();
        for row in rows.as_array_mut().unwrap() {
            row.as_object_mut()
                .unwrap()
                .retain(|name, _| !name.starts_with("odata.") && !name.starts_with("Timestamp"));
        }
        all.insert(name[prefix.len()..].to_owned(), rows);
    }
    all
}

/// Writes rows as they were read.
pub async fn put_all(prefix: &str, all: &BTreeMap<String, Value>) {
    for (table, rows) in all {
        for row in rows.as_array().unwrap() {
            ask(reqwest::Method::POST, &format!("{prefix}{table}"), Some(row)).await;
        }
    }
}

async fn ask(method: reqwest::Method, what: &str, body: Option<&Value>) -> Value {
    let mut url = azurite::endpoint();
    url.set_path(&format!("{}/{what}", url.path().trim_end_matches('/')));
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let account = azure_storage::EMULATOR_ACCOUNT;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(azure_storage::EMULATOR_ACCOUNT_KEY).unwrap());
    let content = if body.is_some() { "application/json" } else { "" };
    let text = format!("{method}\n\n{content}\n{date}\n/{account}{}", url.path());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client
        .request(method, url)
        .header("x-ms-date", date)
        .header("x-ms-version", TABLES_VERSION)
        .header("accept", "application/json;odata=fullmetadata")
        .header("authorization", format!("SharedKey {account}:{signature}"));
    if let Some(body) = body {
        request = request.header("content-type", content).body(body.to_string());
    }
    let answer = request.send().await.unwrap();
    let status = answer.status();
    assert!(answer.headers().get("x-ms-continuation-NextPartitionKey").is_none(), "a sample of one page");
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{what}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(json!(null))
}
