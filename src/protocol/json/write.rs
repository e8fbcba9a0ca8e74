//! Writing fields.

use bytes::Bytes;

/// Fields of an object, written one after another, without the braces around them.
#[derive(Default)]
pub struct Members(Vec<u8>);

impl Members {
    /// No fields yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A field that is a string.
    #[must_use]
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.name(name);
        write_string(&mut self.0, text);
        self
    }

    /// A field that is a whole number.
    #[must_use]
    pub fn number(self, name: &str, number: u64) -> Self {
        self.raw(name, number.to_string().as_bytes())
    }

    /// A field whose value is the text of one JSON value.
    #[must_use]
    pub fn raw(mut self, name: &str, value: &[u8]) -> Self {
        self.name(name);
        self.0.extend_from_slice(value);
        self
    }

    /// A field that is an object of these members.
    #[must_use]
    pub fn object(mut self, name: &str, members: &Self) -> Self {
        self.name(name);
        self.0.push(b'{');
        self.0.extend_from_slice(&members.0);
        self.0.push(b'}');
        self
    }

    /// A field that is an array of strings.
    #[must_use]
    pub fn texts<T: AsRef<str>>(mut self, name: &str, texts: impl IntoIterator<Item = T>) -> Self {
        self.name(name);
        self.0.push(b'[');
        for (index, text) in texts.into_iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            write_string(&mut self.0, text.as_ref());
        }
        self.0.push(b']');
        self
    }

    /// The fields, separated by commas.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The object that has these fields.
    #[must_use]
    pub fn into_object(mut self) -> Bytes {
        self.0.insert(0, b'{');
        self.0.push(b'}');
        self.0.into()
    }

    fn name(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        write_string(&mut self.0, name);
        self.0.push(b':');
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(br"\n"),
            b'\r' => out.extend(br"\r"),
            b'\t' => out.extend(br"\t"),
            0..0x20 => {
                out.extend(br"\u00");
                out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
