from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InferenceRequest(_message.Message):
    __slots__ = ("model_name", "prompt", "parameters", "max_tokens", "temperature")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    prompt: str
    parameters: _containers.ScalarMap[str, str]
    max_tokens: int
    temperature: float
    def __init__(self, model_name: _Optional[str] = ..., prompt: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ...) -> None: ...

class InferenceResponse(_message.Message):
    __slots__ = ("response_text", "tokens_generated", "inference_time_ms", "status", "error_message")
    RESPONSE_TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_GENERATED_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    response_text: str
    tokens_generated: int
    inference_time_ms: float
    status: str
    error_message: str
    def __init__(self, response_text: _Optional[str] = ..., tokens_generated: _Optional[int] = ..., inference_time_ms: _Optional[float] = ..., status: _Optional[str] = ..., error_message: _Optional[str] = ...) -> None: ...

class ModelLoadRequest(_message.Message):
    __slots__ = ("model_name", "model_path", "load_params", "shards")
    class LoadParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_PATH_FIELD_NUMBER: _ClassVar[int]
    LOAD_PARAMS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_path: str
    load_params: _containers.ScalarMap[str, str]
    shards: int
    def __init__(self, model_name: _Optional[str] = ..., model_path: _Optional[str] = ..., load_params: _Optional[_Mapping[str, str]] = ..., shards: _Optional[int] = ...) -> None: ...

class ModelLoadReply(_message.Message):
    __slots__ = ("success", "message", "model_id", "vram_used_mb")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VRAM_USED_MB_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    model_id: str
    vram_used_mb: int
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ..., model_id: _Optional[str] = ..., vram_used_mb: _Optional[int] = ...) -> None: ...

class ModelUnloadRequest(_message.Message):
    __slots__ = ("model_name", "force")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    force: bool
    def __init__(self, model_name: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class ModelUnloadReply(_message.Message):
    __slots__ = ("success", "message", "vram_freed_mb")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    VRAM_FREED_MB_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    vram_freed_mb: int
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ..., vram_freed_mb: _Optional[int] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "path", "status", "vram_mb", "shards", "load_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VRAM_MB_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    LOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    path: str
    status: str
    vram_mb: int
    shards: int
    load_time: int
    def __init__(self, name: _Optional[str] = ..., path: _Optional[str] = ..., status: _Optional[str] = ..., vram_mb: _Optional[int] = ..., shards: _Optional[int] = ..., load_time: _Optional[int] = ...) -> None: ...

class ModelList(_message.Message):
    __slots__ = ("models", "total_count", "total_vram_mb")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_VRAM_MB_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    total_count: int
    total_vram_mb: int
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., total_count: _Optional[int] = ..., total_vram_mb: _Optional[int] = ...) -> None: ...
