//! The calls of extensions: registered, told of events, and heard when they fail. What becomes of that is the instance's to say.

use super::super::body::{Body, Broken};
use super::super::extensions::{
    Denied, ERROR_BYTES_MAX, ERROR_TYPE, ExtensionCall, FEATURES, IDENTIFIER, NAME, REGISTER_BYTES_MAX, Wants, event, identifier,
    name,
};
use super::{Connection, GoesOn, Refused, TAKEN};
use maitred_wire::RequestHead;
use uuid::Uuid;

/// Calls on one connection from which on its client is known to keep it: then its end is that of the client.
const KEPT_CALLS: u32 = 2;
/// Of what an extension calls its error; more is cut.
const KIND_BYTES_MAX: usize = 256;

impl Connection {
    pub(super) async fn extension(&mut self, call: ExtensionCall, head: &RequestHead, body: &mut Body) -> GoesOn {
        match call {
            ExtensionCall::Register => self.register(head, body).await,
            ExtensionCall::Next => match self.known(head) {
                Ok((id, _)) => self.extension_next(id, body).await,
                Err(denied) => self.refuse(head, body, Refused::Extension(denied)).await,
            },
            ExtensionCall::InitError => self.extension_error(head, body, true).await,
            ExtensionCall::ExitError => self.extension_error(head, body, false).await,
        }
    }

    /// Until the extensions are, too; `None`: the client has gone.
    pub(super) async fn extensions_ready(&mut self) -> GoesOn {
        let instance = self.instance.clone();
        tokio::select! {
            biased;
            () = self.wire.closed() => None,
            () = instance.extensions.ready() => Some(()),
        }
    }

    /// The connection has ended. A client that makes a new one for each call may be at work still.
    pub(super) fn leave(&mut self, calls: u32) {
        if let Some(id) = self.extension.take().filter(|_| calls >= KEPT_CALLS) {
            self.instance.extensions.left(id);
            self.instance.extension_moved();
        }
    }

    fn known(&self, head: &RequestHead) -> Result<(Uuid, Box<str>), Denied> {
        let id = identifier(head.headers.get(IDENTIFIER))?;
        Ok((id, self.instance.extensions.name(id)?))
    }

    async fn register(&mut self, head: &RequestHead, body: &mut Body) -> GoesOn {
        self.proceed(head).await?;
        let wants = match self.wire.whole(body, REGISTER_BYTES_MAX).await {
            Ok(wants) => wants,
            Err(Broken::TooLong) => return self.refuse(head, body, Refused::Extension(Denied::TooLong)).await,
            Err(Broken::Cut) => return None,
        };
        let registered = name(head.headers.get(NAME)).and_then(|name| {
            let wants = Wants::parse(&wants)?;
            let id = self.instance.extensions.register(name, wants)?;
            self.instance.extension_registered(name, wants);
            Ok(id)
        });
        match registered {
            Ok(id) => {
                self.out.clear();
                self.instance.write_registered(id, head.headers.get(FEATURES), &mut self.out);
                self.wire.write(&self.out, &[]).await.ok()
            }
            Err(denied) => self.refuse(head, body, Refused::Extension(denied)).await,
        }
    }

    /// Waits for an event as long as it takes.
    async fn extension_next(&mut self, id: Uuid, body: &mut Body) -> GoesOn {
        if !self.wire.discard(body).await {
            return None;
        }
        let Ok(mut given) = self.instance.extensions.ask(id) else { return None };
        self.extension = Some(id);
        self.instance.extension_moved();
        let told = tokio::select! {
            biased;
            () = self.wire.closed() => {
                self.instance.extensions.unask(id, given);
                return None;
            }
            told = &mut given => told,
        };
        let Ok(told) = told else {
            if self.instance.is_ending() {
                // It has heard that it ends, and there is nothing more to hear.
                self.wire.closed().await;
                return None;
            }
            // It asked once more, on another connection.
            return self.say(body, |out| Refused::State.write(out, false)).await;
        };
        self.out.clear();
        event(&mut self.out, &told);
        if self.wire.write(&self.out, &[]).await.is_err() {
            self.instance.extensions.not_taken(id, told);
            return None;
        }
        Some(())
    }

    async fn extension_error(&mut self, head: &RequestHead, body: &mut Body, at_init: bool) -> GoesOn {
        let kind = head.headers.get(ERROR_TYPE).map(|kind| String::from_utf8_lossy(&kind[..kind.len().min(KIND_BYTES_MAX)]));
        let known = self.known(head).and_then(|(id, name)| Ok((id, name, kind.ok_or(Denied::ErrorTypeMissing)?)));
        let (id, name, kind) = match known {
            Ok(known) => known,
            Err(denied) => return self.refuse(head, body, Refused::Extension(denied)).await,
        };
        if at_init && !self.instance.is_starting() {
            return self.refuse(head, body, Refused::State).await;
        }
        self.proceed(head).await?;
        let payload = match self.wire.whole(body, ERROR_BYTES_MAX).await {
            Ok(payload) => payload,
            Err(Broken::TooLong) => return self.refuse(head, body, Refused::Extension(Denied::TooLong)).await,
            Err(Broken::Cut) => return None,
        };
        let goes_on = self.accepted(body, TAKEN).await;
        self.instance.extension_failed(id, (&name, &kind), &payload);
        goes_on
    }
}
