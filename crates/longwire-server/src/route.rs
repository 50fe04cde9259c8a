//! The route of one request.

/// The handler of a request, and the parameters in its path.
#[derive(Debug)]
pub(crate) struct Route {
    index: usize,
    params: Vec<(Box<str>, Box<str>)>,
}

impl Route {
    pub(crate) fn new<'a>(index: usize, params: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self { index, params: params.map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// Returns the position of the handler in the table of routes.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns the text in the path that matched `{name}` in the route.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }
}
