//! Content as values of Rust, in JSON.
//!
//! The router does not interpret it. A message with such content says so by its language, `json`.

use serde::{Deserialize, Serialize};

use super::{Message, MessageBuilder, MessageError};

/// The language of JSON content.
pub const JSON_LANGUAGE: &str = "json";

/// Why a message's content is not the JSON that was expected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The message says that its content is in another language.
    #[error("the content is in the language {language:?}: expected is {JSON_LANGUAGE:?}, or none")]
    Language {
        /// The message's language.
        language: String,
    },
    /// The content is not JSON, or not JSON of this type.
    #[error("the content is not the expected JSON: {reason}")]
    Content {
        /// What is wrong, with line and column.
        reason: String,
    },
}

impl MessageBuilder {
    /// Sets the content to a value in JSON, and the language to [`JSON_LANGUAGE`].
    ///
    /// A value that has no form in JSON, such as a map whose keys are no strings, is refused when the message is built.
    /// The limits are those of other content: the length in bytes, when the message is built and when it is sent.
    ///
    /// ```
    /// # use caxton_shards::message::{Message, Performative};
    /// let quote = Message::builder(Performative::Propose).json(&("bolts", 12.5)).build()?;
    /// assert_eq!(quote.content().as_text(), Some(r#"["bolts",12.5]"#));
    /// assert_eq!(quote.json(), Ok(("bolts", 12.5)));
    /// # Ok::<(), caxton_shards::message::MessageError>(())
    /// ```
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.content(bytes).language(JSON_LANGUAGE),
            Err(error) => {
                self.fail(MessageError::Json { reason: error.to_string() });
                self
            }
        }
    }
}

impl Message {
    /// Returns the content as a value, which may borrow from the message. A message without a language is read too.
    ///
    /// Values nest at most 128 levels deep.
    ///
    /// # Errors
    /// The content is in another language, is not JSON, or is not a value of this type.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        if let Some(language) = self.language()
            && !language.eq_ignore_ascii_case(JSON_LANGUAGE)
        {
            return Err(JsonError::Language { language: language.to_owned() });
        }
        serde_json::from_slice(self.content().as_bytes())
            .map_err(|error| JsonError::Content { reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Performative;

    #[test]
    fn a_value_goes_into_a_message_and_comes_out_again() {
        let message = Message::builder(Performative::Inform).json(&vec![1, 2]).build().unwrap();
        assert_eq!((message.language(), message.json::<Vec<u8>>()), (Some("json"), Ok(vec![1, 2])));
        let error = message.json::<String>().unwrap_err();
        assert!(matches!(error, JsonError::Content { .. }), "{error}");
    }

    #[test]
    fn another_language_is_refused_and_none_is_read() {
        let build = |builder: MessageBuilder| builder.content("7").build().unwrap();
        let plain = build(Message::builder(Performative::Inform));
        assert_eq!(plain.json::<u8>(), Ok(7));
        let foreign = build(Message::builder(Performative::Inform).language("fipa-sl"));
        assert_eq!(foreign.json::<u8>(), Err(JsonError::Language { language: "fipa-sl".to_owned() }));
    }

    #[test]
    fn what_has_no_form_in_json_is_refused_when_the_message_is_built() {
        let unfit = std::collections::BTreeMap::from([((1, 2), 3)]);
        let error = Message::builder(Performative::Inform).json(&unfit).build().unwrap_err();
        assert!(matches!(error, MessageError::Json { .. }), "{error}");
    }
}
