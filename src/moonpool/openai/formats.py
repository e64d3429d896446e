"""What an answer may be asked to be: text, JSON of a schema, or calls of tools; and their own rules.

Source: OpenAI API reference, "Create chat completion".
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from moonpool.core.errors import BadRequest
from moonpool.openai.messages import FunctionName


class TextFormat(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="text"):
    pass


class JsonObjectFormat(
    Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="json_object"
):
    pass


class JsonSchema(Struct, frozen=True, omit_defaults=True):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_\-]{1,64}$")]
    schema: dict[str, object] | UnsetType = UNSET
    strict: bool | None = None
    description: str | None = None


class JsonSchemaFormat(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="json_schema"):
    json_schema: JsonSchema


class Function(Struct, frozen=True, omit_defaults=True):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class FunctionTool(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="function"):
    function: Function


class Custom(Struct, frozen=True, omit_defaults=True):
    name: FunctionName
    description: str | None = None
    format: dict[str, object] | None = None


class CustomTool(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="custom"):
    custom: Custom


class NamedFunction(Struct, frozen=True, omit_defaults=True, gc=False):
    name: FunctionName


class FunctionChoice(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="function"):
    function: NamedFunction


class CustomChoice(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="custom"):
    custom: NamedFunction


class AllowedTools(Struct, frozen=True, omit_defaults=True):
    mode: Literal["auto", "required"]
    tools: list[dict[str, object]]


class AllowedToolsChoice(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="allowed_tools"):
    allowed_tools: AllowedTools


Tool = FunctionTool | CustomTool
ToolChoice = Literal["none", "auto", "required"] | FunctionChoice | CustomChoice | AllowedToolsChoice
ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


def check_json_schema(wanted: JsonSchema) -> None:
    param = "response_format.json_schema.schema"
    if wanted.schema is UNSET:
        raise BadRequest("A response format of type json_schema needs a schema.", param=param)
    assert isinstance(wanted.schema, dict)
    if wanted.schema.get("type", "object") != "object":
        raise BadRequest(
            "The schema's root must be of type 'object'.",
            param=f"{param}.type",
            hint="Wrap other types in an object with one property.",
        )


def check_tools(tools: Sequence[Tool], choice: ToolChoice | None) -> None:
    names = [tool.function.name if isinstance(tool, FunctionTool) else tool.custom.name for tool in tools]
    if len(set(names)) != len(names):
        raise BadRequest("Two tools have the same name.", param="tools")
    if choice is None or choice in ("none", "auto"):
        return
    if not names:
        raise BadRequest(
            "'tool_choice' needs 'tools'.",
            param="tool_choice",
            hint="Send the tools, or leave tool_choice out.",
        )
    wanted = None
    if isinstance(choice, FunctionChoice):
        wanted = choice.function.name
    elif isinstance(choice, CustomChoice):
        wanted = choice.custom.name
    if wanted is not None and wanted not in names:
        raise BadRequest(
            f"'tool_choice' names '{wanted}', which is not among the tools.", param="tool_choice"
        )
