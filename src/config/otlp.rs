//! Where and how telemetry is exported.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use caxton_shards::domain::DomainError;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};

use super::directory::{read_path, show_path};
use super::value::{Setting, entries, is_plain};

/// Maximum number of headers added to requests.
const HEADERS_MAX: usize = 32;
/// Maximum number of attributes of the service.
const ATTRIBUTES_MAX: usize = 64;
/// Maximum length of the service's name, in bytes.
const SERVICE_NAME_BYTES_MAX: usize = 255;
/// Stands for the value of a header wherever settings are shown.
const HIDDEN: &str = "<hidden>";

/// An optional URL of a collector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoint(Option<Uri>);

impl Endpoint {
    /// Returns the URL, which has a scheme and a host, if there is one.
    pub(crate) fn uri(&self) -> Option<&Uri> {
        self.0.as_ref()
    }
}

impl Setting for Endpoint {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "a URL such as \"http://collector:4318\" or \"https://collector.example/otlp\", without user, query \
                               and fragment, or nothing";
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(None));
        }
        // What stands before an @ may be a password, which no error repeats.
        let shown = text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("{HIDDEN}@{host}"));
        let refuse = || DomainError::not_allowed("otlp endpoint", &shown, ALLOWED);
        if text.contains(|letter: char| letter.is_control() || matches!(letter, '"' | '\\' | '#' | '?' | '@')) {
            return Err(refuse());
        }
        let uri: Uri = text.parse().map_err(|_| refuse())?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().filter(|host| !host.is_empty() && is_http).ok_or_else(refuse)?;
        // What follows the host in the authority is a port, whether or not it is a legal one.
        let port = uri.authority().and_then(|whole| whole.as_str().strip_prefix(host)).ok_or_else(refuse)?;
        let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port != 0);
        let is_legal = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        if is_legal { Ok(Self(Some(uri))) } else { Err(refuse()) }
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.uri().map(ToString::to_string).unwrap_or_default())
    }
}

/// Headers added to every request of an export.
///
/// Their values may be secrets: they are shown nowhere, in no error either.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ExportHeaders(Vec<(HeaderName, HeaderValue)>);

impl ExportHeaders {
    /// Iterates over the names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Adds the headers to those of a request.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.append(name.clone(), value.clone());
        }
    }
}

impl fmt::Debug for ExportHeaders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.names().map(|name| (name, HIDDEN))).finish()
    }
}

impl Setting for ExportHeaders {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "up to 32 headers such as \"api-key=secret, x-tenant=a%20b\" with percent-encoded values, which have to \
                               be written out because they are never shown, and none that the exporter sets itself";
        const { assert!(HEADERS_MAX == 32, "the text says so") };
        // Neither name nor value: an entry without = may be nothing but a secret.
        let refuse = |index| DomainError::not_allowed("otlp headers", &format!("entry {}", index + 1), ALLOWED);
        let mut headers = Vec::new();
        for (index, entry) in entries(text).enumerate() {
            let (name, value) = entry.split_once('=').ok_or_else(|| refuse(index))?;
            let name: HeaderName = name.trim().parse().map_err(|_| refuse(index))?;
            let value = percent_decoded(value.trim()).ok_or_else(|| refuse(index))?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| refuse(index))?;
            if value == HIDDEN || is_reserved(&name) || index >= HEADERS_MAX {
                return Err(refuse(index));
            }
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(Self(headers))
    }

    /// Returns the names only. What is shown cannot be read back, so that no file of shown settings sends wrong values.
    fn show(&self) -> String {
        let headers: Vec<_> = self.names().map(|name| format!("{name}={HIDDEN}")).collect();
        format!("\"{}\"", headers.join(", "))
    }
}

/// Whether the exporter sets this header itself.
fn is_reserved(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::HOST,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
}

/// An optional file with certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateFile(Option<PathBuf>);

impl CertificateFile {
    /// Returns the file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl Setting for CertificateFile {
    fn read(text: &str) -> Result<Self, DomainError> {
        read_path("certificate file", text).map(Self)
    }

    fn show(&self) -> String {
        show_path(self.path())
    }
}

/// How requests are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// By gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

impl Setting for Compression {
    fn read(text: &str) -> Result<Self, DomainError> {
        match text.trim() {
            "gzip" => Ok(Self::Gzip),
            "none" => Ok(Self::None),
            _ => Err(DomainError::not_allowed("otlp compression", text, "gzip or none")),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Gzip => "\"gzip\"".to_owned(),
            Self::None => "\"none\"".to_owned(),
        }
    }
}

/// An optional name of the service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceName(Option<String>);

impl ServiceName {
    /// Returns the name, if there is one.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Setting for ServiceName {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "up to 255 bytes without quotes, backslashes and control characters, or nothing";
        const { assert!(SERVICE_NAME_BYTES_MAX == 255, "the text says so") };
        let name = text.trim();
        if name.len() > SERVICE_NAME_BYTES_MAX || !is_plain(name) {
            return Err(DomainError::not_allowed("service name", text, ALLOWED));
        }
        Ok(Self((!name.is_empty()).then(|| name.to_owned())))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.name().unwrap_or_default())
    }
}

/// Attributes of the service, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceAttributes(Vec<(String, String)>);

impl ResourceAttributes {
    /// Iterates over names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Setting for ResourceAttributes {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "up to 64 attributes such as \"deployment.environment.name=staging\" with commas between them, each with \
                               a name of its own, and with percent-encoded values";
        const { assert!(ATTRIBUTES_MAX == 64, "the text says so") };
        let refuse = || DomainError::not_allowed("resource attributes", text, ALLOWED);
        let mut attributes: Vec<(String, String)> = Vec::new();
        for entry in entries(text) {
            let (name, value) = entry.split_once('=').ok_or_else(refuse)?;
            let (name, value) = percent_decoded(name.trim()).zip(percent_decoded(value.trim())).ok_or_else(refuse)?;
            let taken = attributes.iter().any(|(other, _)| *other == name);
            if name.is_empty() || taken || attributes.len() >= ATTRIBUTES_MAX {
                return Err(refuse());
            }
            attributes.push((name, value));
        }
        Ok(Self(attributes))
    }

    fn show(&self) -> String {
        let attributes: Vec<_> =
            self.iter().map(|(name, value)| format!("{}={}", PercentEncoded(name), PercentEncoded(value))).collect();
        format!("\"{}\"", attributes.join(", "))
    }
}

/// Decodes `%20` and the like; `None` if a percent sign has no two digits, or if the result is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Encodes what has a meaning in a list or in TOML.
struct PercentEncoded<'a>(&'a str);

impl Display for PercentEncoded<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%' | b',' | b';' | b'=' | b'\\') {
                write!(formatter, "{}", char::from(byte))?;
            } else {
                write!(formatter, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_of_http_with_a_host() {
        for text in ["http://collector:4318", "https://c.example/otlp/", "http://[::1]:4318/v1/traces", " ", "http://a"]
        {
            let endpoint = Endpoint::read(text).expect(text);
            assert_eq!(Endpoint::read(endpoint.show().trim_matches('"')), Ok(endpoint));
        }
        for text in [
            "collector:4318",
            "grpc://a",
            "http://",
            "http:///x",
            "http://a:99999",
            "http://a:0",
            "http://a?b",
            "http://a#b",
        ] {
            let error = Endpoint::read(text).expect_err(text).to_string();
            assert!(error.contains("http://collector:4318"), "{error}");
        }
        let error = Endpoint::read("http://me:secret@collector").expect_err("no user is allowed").to_string();
        assert!(error.contains("<hidden>@collector") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn values_of_headers_are_decoded_and_never_shown() {
        let headers = ExportHeaders::read("Api-Key = s%2Cecret%3D, x-tenant=a%20b,").expect("both are legal");
        let mut map = HeaderMap::new();
        headers.add_to(&mut map);
        assert_eq!(map["api-key"].to_str().expect("it is text"), "s,ecret=");
        assert_eq!(map["x-tenant"].to_str().expect("it is text"), "a b");
        assert_eq!(headers.show(), "\"api-key=<hidden>, x-tenant=<hidden>\"");
        for shown in [format!("{headers:?}"), format!("{map:?}"), headers.show()] {
            assert!(!shown.contains("ecret"), "{shown}");
        }
        for (text, entry) in [
            ("api-key=secret, secret", 2),
            ("api key=secret", 1),
            ("api-key=secret%2", 1),
            ("api-key=secret%0A", 1),
            ("api-key=secret%FF", 1),
            ("host=secret", 1),
            ("Content-Length=secret", 1),
            ("api-key=<hidden>", 1),
        ] {
            let error = ExportHeaders::read(text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("otlp headers \"entry {entry}\" is not allowed: ")), "{error}");
            assert!(!error.contains(text), "{error}");
        }
        let many: Vec<_> = (0..=HEADERS_MAX).map(|number| format!("x-{number}=1")).collect();
        assert!(ExportHeaders::read(&many.join(",")).is_err() && ExportHeaders::read(&many[1..].join(",")).is_ok());
    }

    #[test]
    fn attributes_read_back() {
        let text = "deployment.environment.name=staging, team = a%2Cb%22%5C%25%C3%A4 ";
        let attributes = ResourceAttributes::read(text).expect("both are legal");
        let expected = [("deployment.environment.name", "staging"), ("team", "a,b\"\\%ä")];
        assert_eq!(attributes.iter().collect::<Vec<_>>(), expected);
        assert_eq!(ResourceAttributes::read(attributes.show().trim_matches('"')), Ok(attributes));
        for text in ["team", "=a", "a=1,a=2", "a=%zz"] {
            assert!(ResourceAttributes::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_other_values_read_back() {
        for compression in [Compression::Gzip, Compression::None] {
            assert_eq!(Compression::read(compression.show().trim_matches('"')), Ok(compression));
        }
        assert!(Compression::read("snappy").is_err());
        let file = CertificateFile::read("/etc/ca.pem").expect("it is a path");
        assert_eq!(CertificateFile::read(file.show().trim_matches('"')), Ok(file));
        let name = ServiceName::read(" router of the north ").expect("it is a name");
        assert_eq!((name.name(), ServiceName::read("")), (Some("router of the north"), Ok(ServiceName(None))));
        assert!(ServiceName::read(&"n".repeat(SERVICE_NAME_BYTES_MAX + 1)).is_err());
    }
}
