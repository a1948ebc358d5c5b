//! What a call demands of its answer, as far as it can be checked: the form of the text, which tools
//! may or must be called, and with which arguments.
//!
//! **Invariant**: a call whose work the provider itself does (its own tools, connectors) is barred
//! from cascades, since a second leg would do that work twice (test `what_a_call_demands`).

use wire::dialect::Dialect;
use wire::dialect::request::Request;
use wire::json::{Node, Tape};

use super::schema::Schema;

/// What the text of an answer must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Anything.
    #[default]
    Free,
    /// A JSON object, of whatever kind.
    Json,
    /// JSON of this kind.
    Schema(Schema),
}

/// Whether tools are to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// As the model likes.
    #[default]
    Free,
    /// Not at all.
    None,
    /// At least one, whichever.
    Some,
    /// This one.
    Named(String),
}

/// A tool that the client runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What its arguments must be; none if the client does not say, or takes free text.
    pub arguments: Option<Schema>,
    /// How its input is written.
    pub input: Input,
}

/// How a tool's input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// As a JSON object.
    Json,
    /// As text of any form.
    Text,
}

/// Why a call must not be served by more than one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// It asks for several answers at once, which no single judgement covers.
    Alternatives,
    /// The provider itself runs tools or connectors, whose effects a second leg would repeat.
    ProviderTools,
    /// The body cannot be read.
    Unreadable,
}

impl Barred {
    /// The name in notes and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alternatives => "alternatives",
            Self::ProviderTools => "provider_tools",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a call demands of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// The text's form.
    pub form: Form,
    /// The tools that the client runs.
    pub tools: Vec<Tool>,
    /// Whether they are to be called.
    pub choice: Choice,
    /// Why the call must have one leg only; none if it may be cascaded.
    pub barred: Option<Barred>,
}

impl Contract {
    /// Reads what a request demands. Copies the schemas; costs one pass over the body.
    ///
    /// ```
    /// use policy::cascade::contract::{Choice, Contract};
    /// use wire::dialect::Dialect;
    ///
    /// let body = br#"{"model":"m","messages":[],"tool_choice":"required"}"#;
    /// let contract = Contract::read(Dialect::OpenAiChat, body);
    /// assert_eq!(contract.choice, Choice::Some);
    /// ```
    pub fn read(dialect: Dialect, body: &[u8]) -> Self {
        let Ok(tape) = Tape::read(body) else {
            return Self {
                barred: Some(Barred::Unreadable),
                ..Self::default()
            };
        };
        Self::demanded(dialect, tape.root())
    }

    /// What a request that was read demands.
    pub fn of(request: &Request<'_>) -> Self {
        Self::demanded(request.dialect, request.root())
    }

    fn demanded(dialect: Dialect, root: Node<'_>) -> Self {
        match dialect {
            Dialect::AnthropicMessages => anthropic(root),
            Dialect::OpenAiChat => openai(root),
        }
    }

    /// Whether only a whole answer can be judged: one with a form, or that may call tools.
    pub fn needs_whole(&self) -> bool {
        self.form != Form::Free || (!self.tools.is_empty() && self.choice != Choice::None)
    }

    /// The tool of that name.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}

fn openai(root: Node<'_>) -> Contract {
    let form = given(root, "response_format").map_or(Form::Free, |format| {
        let schema = given(format, "json_schema").and_then(|it| given(it, "schema"));
        form(kind(format).as_deref(), schema)
    });
    let mut contract = Contract {
        form,
        choice: given(root, "tool_choice")
            .or_else(|| given(root, "function_call"))
            .map_or(Choice::Free, openai_choice),
        ..Contract::default()
    };
    let listed = |key| given(root, key).into_iter().flat_map(|list| list.items());
    for tool in listed("tools") {
        match kind(tool).as_deref() {
            Some("function") => contract
                .tools
                .extend(given(tool, "function").and_then(declared)),
            Some("custom") => {
                let name = given(tool, "custom").and_then(|custom| text(custom, "name"));
                contract.tools.extend(name.map(free_text));
            }
            _ => contract.barred = Some(Barred::ProviderTools),
        }
    }
    contract
        .tools
        .extend(listed("functions").filter_map(declared));
    if given(root, "web_search_options").is_some() {
        contract.barred = Some(Barred::ProviderTools);
    }
    if given(root, "n")
        .and_then(|n| n.as_u64())
        .is_some_and(|n| n > 1)
    {
        contract.barred = Some(Barred::Alternatives);
    }
    contract
}

/// `"auto"`, `"none"`, `"required"`; `{"type":"function","function":{"name":…}}`; the older
/// `{"name":…}`; `{"type":"allowed_tools","allowed_tools":{"mode":…}}`.
fn openai_choice(choice: Node<'_>) -> Choice {
    let named = |part: Option<Node<'_>>| Some(Choice::Named(text(part?, "name")?));
    let mode = given(choice, "allowed_tools").and_then(|allowed| text(allowed, "mode"));
    let word = choice.as_str().map(Into::into).or(mode);
    match word.as_deref() {
        Some("none") => Choice::None,
        Some("required") => Choice::Some,
        Some(_) => Choice::Free,
        None => named(given(choice, "function"))
            .or_else(|| named(given(choice, "custom")))
            .or_else(|| named(Some(choice)))
            .unwrap_or_default(),
    }
}

fn anthropic(root: Node<'_>) -> Contract {
    // `output_format` is the older place.
    let format = given(root, "output_config")
        .and_then(|config| given(config, "format"))
        .or_else(|| given(root, "output_format"));
    let mut contract = Contract {
        form: format.map_or(Form::Free, |format| {
            form(kind(format).as_deref(), given(format, "schema"))
        }),
        ..Contract::default()
    };
    let tools = given(root, "tools")
        .into_iter()
        .flat_map(|list| list.items());
    for tool in tools {
        // The client runs tools with a schema of their own, and those that Anthropic only defines.
        match kind(tool).as_deref() {
            None | Some("custom") => contract.tools.extend(declared(tool)),
            Some(kind) if is_run_by_clients(kind) => {
                contract.tools.extend(declared(tool));
            }
            Some(_) => contract.barred = Some(Barred::ProviderTools),
        }
    }
    if given(root, "mcp_servers").is_some_and(|servers| servers.items().next().is_some()) {
        contract.barred = Some(Barred::ProviderTools);
    }
    contract.choice = given(root, "tool_choice").map_or(Choice::Free, |choice| {
        match (kind(choice).as_deref(), text(choice, "name")) {
            (Some("none"), _) => Choice::None,
            (Some("any"), _) => Choice::Some,
            (Some("tool"), Some(name)) => Choice::Named(name),
            _ => Choice::Free,
        }
    });
    contract
}

/// Tools whose schema Anthropic defines and whose work the client does (`bash_20250124`,
/// `text_editor_20250728`, `computer_20250124`, `memory_20250818`). Source:
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview>.
fn is_run_by_clients(kind: &str) -> bool {
    ["bash_", "text_editor_", "computer_", "memory_"]
        .iter()
        .any(|front| kind.starts_with(front))
}

fn form(kind: Option<&str>, schema: Option<Node<'_>>) -> Form {
    match (kind, schema) {
        (Some("json_schema"), Some(schema)) => {
            Schema::read(schema.raw()).map_or(Form::Json, Form::Schema)
        }
        (Some("json_object" | "json_schema"), _) => Form::Json,
        _ => Form::Free,
    }
}

/// A tool with a name and, as `parameters` or `input_schema`, what it takes.
fn declared(tool: Node<'_>) -> Option<Tool> {
    let schema = given(tool, "parameters").or_else(|| given(tool, "input_schema"));
    Some(Tool {
        name: text(tool, "name")?,
        arguments: schema.and_then(|schema| Schema::read(schema.raw()).ok()),
        input: Input::Json,
    })
}

fn free_text(name: String) -> Tool {
    Tool {
        name,
        arguments: None,
        input: Input::Text,
    }
}

/// The member of that name; `null` counts as absent.
pub(super) fn given<'t>(object: Node<'t>, key: &str) -> Option<Node<'t>> {
    object.get(key).filter(|node| !node.is_null())
}

/// A string member.
pub(super) fn text(object: Node<'_>, key: &str) -> Option<String> {
    Some(object.get(key)?.as_str()?.into_owned())
}

/// The member `type`.
pub(super) fn kind(object: Node<'_>) -> Option<String> {
    text(object, "type")
}

#[cfg(test)]
mod tests {
    use super::{Choice, Contract, Form};
    use wire::dialect::Dialect;

    /// What is expected: form, tools that have a schema, choice, bar.
    fn check(dialect: Dialect, members: &str, expect: &str) {
        let body = format!(r#"{{"model":"m","messages":[]{members}}}"#);
        let contract = Contract::read(dialect, body.as_bytes());
        let form = match &contract.form {
            Form::Free => "free",
            Form::Json => "json",
            Form::Schema(_) => "schema",
        };
        let tools: Vec<String> = contract
            .tools
            .iter()
            .map(|tool| match &tool.arguments {
                Some(_) => format!("{}+", tool.name),
                None => tool.name.clone(),
            })
            .collect();
        let choice = match &contract.choice {
            Choice::Free => "free",
            Choice::None => "none",
            Choice::Some => "some",
            Choice::Named(name) => name,
        };
        let barred = contract.barred.map_or("open", super::Barred::name);
        assert_eq!(
            format!("{form} [{}] {choice} {barred}", tools.join(" ")),
            expect,
            "{members}"
        );
    }

    #[test]
    fn what_a_call_demands() {
        let (openai, anthropic) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
        for (dialect, members, expect) in [
            (openai, "", "free [] free open"),
            (
                openai,
                r#","response_format":{"type":"text"}"#,
                "free [] free open",
            ),
            (
                openai,
                r#","response_format":{"type":"json_object"}"#,
                "json [] free open",
            ),
            (
                openai,
                r#","response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{}}}"#,
                "schema [] free open",
            ),
            (
                openai,
                r#","tools":[{"type":"function","function":{"name":"f","parameters":{}}},
                    {"type":"custom","custom":{"name":"g"}}],"tool_choice":"required""#,
                "free [f+ g] some open",
            ),
            (
                openai,
                r#","tool_choice":{"type":"function","function":{"name":"f"}}"#,
                "free [] f open",
            ),
            (
                openai,
                r#","functions":[{"name":"f"}],"function_call":{"name":"f"}"#,
                "free [f] f open",
            ),
            (
                openai,
                r#","tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required"}}"#,
                "free [] some open",
            ),
            (
                openai,
                r#","web_search_options":{}"#,
                "free [] free provider_tools",
            ),
            (openai, r#","n":2"#, "free [] free alternatives"),
            (openai, r#","n":1"#, "free [] free open"),
            (anthropic, "", "free [] free open"),
            (
                anthropic,
                r#","output_config":{"format":{"type":"json_schema","schema":{}}}"#,
                "schema [] free open",
            ),
            (
                anthropic,
                r#","tools":[{"name":"f","input_schema":{}},{"type":"bash_20250124","name":"bash"}],
                    "tool_choice":{"type":"tool","name":"f"}"#,
                "free [f+ bash] f open",
            ),
            (
                anthropic,
                r#","tools":[{"type":"code_execution_20250825","name":"code_execution"}]"#,
                "free [] free provider_tools",
            ),
            (
                anthropic,
                r#","mcp_servers":[{"type":"url","url":"https://a.example"}],"tool_choice":{"type":"any"}"#,
                "free [] some provider_tools",
            ),
        ] {
            check(dialect, members, expect);
        }
        check(openai, ",", "free [] free unreadable");
    }
}
