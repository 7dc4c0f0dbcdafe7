//! Backups: `POST /v1/backup`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::Api;
use super::audit::audited;
use super::body::read_json;
use super::caller::Caller;
use super::endpoint::{Endpoint, responds};
use super::problem::Problem;
use super::reply::{JSON, Reply};
use crate::edge::doors::identity::Operation;
use crate::edge::doors::reason;
use crate::store::backup::backup;

/// Maximum length of a backup's name.
const NAME_BYTES_MAX: usize = 100;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let back_up = Endpoint::new(
        Method::POST,
        "/v1/backup",
        "createBackup",
        "Copies what a start would find in the data directory to a new directory below doors.backups, while the router runs.",
        back_up,
    );
    vec![
        back_up
            .requires(&[Operation::Operate])
            .body(&[(JSON, "BackupRequest")])
            .responds([responds(201, "The backup is complete.", &[(JSON, "Backup")])])
            .problems(&[400, 409, 413, 415, 422]),
    ]
}

/// Which backup is made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    name: String,
}

async fn back_up(State(api): State<Arc<Api>>, caller: Caller, request: Request) -> Result<Reply, Problem> {
    caller.require(Operation::Operate)?;
    let (parts, body) = request.into_parts();
    let read: Option<BackupRequest> = read_json(&api.bodies, &parts.headers, body).await?;
    let Some(BackupRequest { name }) = read else {
        return Err(Problem::new(reason::BAD_DOCUMENT, "expected {\"name\": \"...\"}"));
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('.') || !name.bytes().all(is_plain) {
        let detail = "name: expected 1 to 100 letters, digits, dashes, underscores and dots, not beginning with a dot";
        return Err(Problem::new(reason::BAD_DOCUMENT, detail).with_status(StatusCode::UNPROCESSABLE_ENTITY));
    }
    let config = api.context.router.config();
    let Some(directory) = config.doors.backups.path() else {
        return Err(Problem::new(reason::BACKUPS_NOT_CONFIGURED, "set doors.backups to the directory for backups"));
    };
    let Some(data) = config.store.directory.path().map(ToOwned::to_owned) else {
        return Err(Problem::new(reason::NO_STORE, "the router has no store: set store.directory"));
    };
    let busy = |_| Problem::new(reason::IN_PROGRESS, "another backup is being made");
    let permit = Arc::clone(&api.backups).try_acquire_owned().map_err(busy)?;
    let (to, subject) = (directory.join(&name), name.clone());
    audited(&api, &caller, "backup", subject, async move {
        let _permit = permit;
        let copied = tokio::task::spawn_blocking(move || backup(&data, &to)).await;
        let copied = copied.map_err(|_| Problem::new(reason::STOPPING, "the doors are being closed"))?;
        let recovered = copied.map_err(|error| Problem::new(reason::BACKUP_FAILED, error))?;
        let result = json!({
            "name": name,
            "messages": recovered.messages,
            "dead_letters": recovered.dead_letters,
            "agents": recovered.agents,
            "conversations": recovered.conversations,
        });
        Ok((Reply::json(StatusCode::CREATED, &result), result))
    })
    .await
}
