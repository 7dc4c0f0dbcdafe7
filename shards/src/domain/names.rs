//! Names of agents, capabilities and platforms.

use std::str::FromStr;

use nutype::nutype;

use super::DomainError;

/// Maximum length of an agent name, in bytes of UTF-8.
pub const AGENT_NAME_BYTES_MAX: usize = 512;

/// Maximum length of a capability name, in characters.
pub const CAPABILITY_NAME_CHARACTERS_MAX: usize = 100;

/// The name of a capability in the directory: 1 to 100 characters, such as `translate.text` or `3d-render`.
///
/// Surrounding white space is removed. White space, control characters, parentheses and double quotes are refused
/// inside it, so that the name can appear in a message's text without quotes. Names are case-sensitive.
#[nutype(
    sanitize(trim),
    validate(with = check_capability_name, error = DomainError),
    derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Display, AsRef, Deref, Borrow, Into, TryFrom)
)]
pub struct CapabilityName(String);

impl FromStr for CapabilityName {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::try_new(text)
    }
}

/// The name in a FIPA agent identifier (AID): 1 to 512 bytes of UTF-8, such as `broker@shop.example`.
///
/// In the standard (FIPA SC00070) names are words: they contain no white space, control characters, parentheses or
/// double quotes, and do not begin with `#`, `-`, `@` or a digit (see [`AgentName::is_word`]). Other platforms have
/// agents named `Night Porter@plant` and write their names as strings. Such names are accepted too, and are written as
/// strings.
///
/// Control characters, leading and trailing blanks, and all other Unicode white space are refused, so that two names
/// never differ only in invisible characters. Names are compared byte by byte; nothing is trimmed.
#[nutype(
    validate(with = check_agent_name, error = DomainError),
    derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Display, AsRef, Deref, Borrow, Into, TryFrom)
)]
pub struct AgentName(String);

impl AgentName {
    /// Whether the name is a word of FIPA SC00070, as the standard requires. Any other name is written as a string.
    pub fn is_word(&self) -> bool {
        let name: &str = self.as_ref();
        !name.starts_with(|first: char| matches!(first, '#' | '-' | '@' | '0'..='9'))
            && name.chars().all(may_stand_in_a_word)
    }
}

impl FromStr for AgentName {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::try_new(text)
    }
}

/// Maximum length of a platform name, in bytes of UTF-8. It leaves room for an agent's local name in front.
pub const PLATFORM_NAME_BYTES_MAX: usize = 256;

/// The name of an agent platform, which follows the `@` in its agents' names: 1 to 256 bytes of UTF-8, such as
/// `shop.example:1099/JADE`. It accepts the characters of an [`AgentName`] except `@`.
#[nutype(
    validate(with = check_platform_name, error = DomainError),
    derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Display, AsRef, Deref, Borrow, Into, TryFrom)
)]
pub struct PlatformName(String);

impl FromStr for PlatformName {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::try_new(text)
    }
}

fn check_platform_name(name: &str) -> Result<(), DomainError> {
    let fits = (1..=PLATFORM_NAME_BYTES_MAX).contains(&name.len());
    if fits && name.chars().all(|character| character != '@' && may_stand_in_a_word(character)) {
        return Ok(());
    }
    Err(DomainError::not_allowed(
        "platform name",
        name,
        "1 to 256 bytes without white space, control characters, parentheses, double quotes or @",
    ))
}

fn check_capability_name(name: &str) -> Result<(), DomainError> {
    let length = name.chars().take(CAPABILITY_NAME_CHARACTERS_MAX + 1).count();
    if (1..=CAPABILITY_NAME_CHARACTERS_MAX).contains(&length) && name.chars().all(may_stand_in_a_word) {
        return Ok(());
    }
    Err(DomainError::not_allowed(
        "capability name",
        name,
        "1 to 100 characters without white space, control characters, parentheses or double quotes",
    ))
}

fn check_agent_name(name: &str) -> Result<(), DomainError> {
    if (1..=AGENT_NAME_BYTES_MAX).contains(&name.len()) && is_visible(name) {
        return Ok(());
    }
    Err(DomainError::not_allowed(
        "agent name",
        name,
        "1 to 512 bytes without control characters and without white space other than blanks, \
         not beginning or ending with a blank",
    ))
}

fn is_visible(name: &str) -> bool {
    // Fast path: nearly all names are ASCII without blanks, which needs no Unicode tables.
    name.bytes().all(|byte| byte.is_ascii_graphic())
        || (!name.starts_with(' ')
            && !name.ends_with(' ')
            && name.chars().all(|character| character == ' ' || !(character.is_control() || character.is_whitespace())))
}

fn may_stand_in_a_word(character: char) -> bool {
    !character.is_control() && !character.is_whitespace() && !matches!(character, '(' | ')' | '"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_names_are_trimmed_and_bounded() {
        let longest = "ü".repeat(CAPABILITY_NAME_CHARACTERS_MAX);
        let too_long = "ü".repeat(CAPABILITY_NAME_CHARACTERS_MAX + 1);
        for (text, expected) in [
            ("translate.text", Some("translate.text")),
            ("  translate.text\n", Some("translate.text")),
            ("3d-render", Some("3d-render")),
            (longest.as_str(), Some(longest.as_str())),
            (too_long.as_str(), None),
            ("", None),
            (" \t ", None),
            ("translate text", None),
            ("translate\u{a0}text", None),
            ("bell\u{7}", None),
            ("f(x)", None),
            ("\"quoted\"", None),
        ] {
            let name = CapabilityName::try_new(text);
            assert_eq!(name.as_ref().ok().map(|name| name.as_str()), expected, "{text:?}");
        }
    }

    #[test]
    fn agent_names_are_visible_and_bounded() {
        let longest = "n".repeat(AGENT_NAME_BYTES_MAX);
        let too_long = "n".repeat(AGENT_NAME_BYTES_MAX + 1);
        let too_many_bytes = "ü".repeat(AGENT_NAME_BYTES_MAX / 2 + 1);
        for (text, accepted) in [
            ("a", true),
            ("broker@shop.example", true),
            ("agent-7#2", true),
            ("バイヤー", true),
            ("it's", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            (too_many_bytes.as_str(), false),
            ("", false),
            (" broker", false),
            ("broker ", false),
            ("two words", true),
            ("two\u{a0}words", false),
            ("tab\t", false),
            ("nul\0", false),
            ("delete\u{7f}", false),
            ("next\u{85}line", false),
            ("wide\u{3000}space", false),
            ("open(", true),
            ("7of9", true),
        ] {
            assert_eq!(AgentName::try_new(text).is_ok(), accepted, "{text:?}");
        }
    }

    #[test]
    fn the_standard_has_words_for_names() {
        for (text, is_word) in [
            ("broker@shop.example", true),
            ("バイヤー", true),
            ("two words", false),
            ("open(", false),
            ("close)", false),
            ("\"quoted\"", false),
            ("#hash", false),
            ("-dash", false),
            ("@home", false),
            ("7of9", false),
        ] {
            assert_eq!(AgentName::try_new(text).expect(text).is_word(), is_word, "{text:?}");
        }
    }
}
