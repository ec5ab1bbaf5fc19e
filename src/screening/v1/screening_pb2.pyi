from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Question(_message.Message):
    __slots__ = ("calling", "called", "dialled", "call_id", "presentation", "calling_status", "screening", "cpc", "attestation", "verstat", "origid", "trunk", "route", "side", "roaming", "diverted_from", "original_called", "redirect_reason", "redirect_count", "display_name", "call_reason", "purpose", "mode", "priority", "resource_priority", "region", "at", "explain")
    CALLING_FIELD_NUMBER: _ClassVar[int]
    CALLED_FIELD_NUMBER: _ClassVar[int]
    DIALLED_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_FIELD_NUMBER: _ClassVar[int]
    CALLING_STATUS_FIELD_NUMBER: _ClassVar[int]
    SCREENING_FIELD_NUMBER: _ClassVar[int]
    CPC_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_FIELD_NUMBER: _ClassVar[int]
    VERSTAT_FIELD_NUMBER: _ClassVar[int]
    ORIGID_FIELD_NUMBER: _ClassVar[int]
    TRUNK_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    ROAMING_FIELD_NUMBER: _ClassVar[int]
    DIVERTED_FROM_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_CALLED_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_REASON_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_COUNT_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CALL_REASON_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    calling: str
    called: str
    dialled: str
    call_id: str
    presentation: str
    calling_status: str
    screening: str
    cpc: str
    attestation: str
    verstat: str
    origid: str
    trunk: str
    route: str
    side: str
    roaming: bool
    diverted_from: str
    original_called: str
    redirect_reason: str
    redirect_count: int
    display_name: str
    call_reason: str
    purpose: str
    mode: str
    priority: str
    resource_priority: str
    region: str
    at: str
    explain: bool
    def __init__(self, calling: _Optional[str] = ..., called: _Optional[str] = ..., dialled: _Optional[str] = ..., call_id: _Optional[str] = ..., presentation: _Optional[str] = ..., calling_status: _Optional[str] = ..., screening: _Optional[str] = ..., cpc: _Optional[str] = ..., attestation: _Optional[str] = ..., verstat: _Optional[str] = ..., origid: _Optional[str] = ..., trunk: _Optional[str] = ..., route: _Optional[str] = ..., side: _Optional[str] = ..., roaming: _Optional[bool] = ..., diverted_from: _Optional[str] = ..., original_called: _Optional[str] = ..., redirect_reason: _Optional[str] = ..., redirect_count: _Optional[int] = ..., display_name: _Optional[str] = ..., call_reason: _Optional[str] = ..., purpose: _Optional[str] = ..., mode: _Optional[str] = ..., priority: _Optional[str] = ..., resource_priority: _Optional[str] = ..., region: _Optional[str] = ..., at: _Optional[str] = ..., explain: _Optional[bool] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("action", "cause", "rule", "ruleset", "decision_id", "degraded", "sip", "q850", "label", "redress", "shadow", "latency_us", "trace", "evidence")
    class LabelEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    RULESET_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    SIP_FIELD_NUMBER: _ClassVar[int]
    Q850_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    REDRESS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    LATENCY_US_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    action: str
    cause: str
    rule: str
    ruleset: str
    decision_id: str
    degraded: bool
    sip: SipAnswer
    q850: int
    label: _containers.ScalarMap[str, str]
    redress: str
    shadow: _containers.RepeatedCompositeFieldContainer[ShadowHit]
    latency_us: int
    trace: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    evidence: Evidence
    def __init__(self, action: _Optional[str] = ..., cause: _Optional[str] = ..., rule: _Optional[str] = ..., ruleset: _Optional[str] = ..., decision_id: _Optional[str] = ..., degraded: _Optional[bool] = ..., sip: _Optional[_Union[SipAnswer, _Mapping]] = ..., q850: _Optional[int] = ..., label: _Optional[_Mapping[str, str]] = ..., redress: _Optional[str] = ..., shadow: _Optional[_Iterable[_Union[ShadowHit, _Mapping]]] = ..., latency_us: _Optional[int] = ..., trace: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., evidence: _Optional[_Union[Evidence, _Mapping]] = ...) -> None: ...

class SipAnswer(_message.Message):
    __slots__ = ("code", "phrase", "reason", "headers")
    CODE_FIELD_NUMBER: _ClassVar[int]
    PHRASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    code: int
    phrase: str
    reason: str
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    def __init__(self, code: _Optional[int] = ..., phrase: _Optional[str] = ..., reason: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class ShadowHit(_message.Message):
    __slots__ = ("rule", "action")
    RULE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    rule: str
    action: str
    def __init__(self, rule: _Optional[str] = ..., action: _Optional[str] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("lists", "named_by", "consent_id")
    class ListsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    LISTS_FIELD_NUMBER: _ClassVar[int]
    NAMED_BY_FIELD_NUMBER: _ClassVar[int]
    CONSENT_ID_FIELD_NUMBER: _ClassVar[int]
    lists: _containers.ScalarMap[str, int]
    named_by: _containers.RepeatedScalarFieldContainer[str]
    consent_id: int
    def __init__(self, lists: _Optional[_Mapping[str, int]] = ..., named_by: _Optional[_Iterable[str]] = ..., consent_id: _Optional[int] = ...) -> None: ...

class ScreenRequest(_message.Message):
    __slots__ = ("question",)
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    question: Question
    def __init__(self, question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class ScreenResponse(_message.Message):
    __slots__ = ("answer",)
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    answer: Answer
    def __init__(self, answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

class ScreenStreamRequest(_message.Message):
    __slots__ = ("questions",)
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    questions: _containers.RepeatedCompositeFieldContainer[StreamedQuestion]
    def __init__(self, questions: _Optional[_Iterable[_Union[StreamedQuestion, _Mapping]]] = ...) -> None: ...

class StreamedQuestion(_message.Message):
    __slots__ = ("id", "question")
    ID_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    id: int
    question: Question
    def __init__(self, id: _Optional[int] = ..., question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class ScreenStreamResponse(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[StreamedAnswer]
    def __init__(self, answers: _Optional[_Iterable[_Union[StreamedAnswer, _Mapping]]] = ...) -> None: ...

class StreamedAnswer(_message.Message):
    __slots__ = ("id", "answer", "refusal")
    ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    id: int
    answer: Answer
    refusal: Refusal
    def __init__(self, id: _Optional[int] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("field", "message")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    field: str
    message: str
    def __init__(self, field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
