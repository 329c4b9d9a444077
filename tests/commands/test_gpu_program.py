"""Tests of commands/gpu_program.py: what XLA and nvdisasm print is read as it is meant."""

import importlib.metadata
import importlib.util

import pytest

from popgym_arcade.commands import gpu_program
from popgym_arcade.commands.gpu_program import TARGETS, Code, Instruction, Thunk
from tests.testing import ROOT

LOOPS = """\
001: kCopy  [source       | next=002 (1)] kCopy
002: kWhile [prev=001 (1) | sink        ]   
condition:
    003: kCustomKernel [source | sink] wrapped_compare grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
  body:
    004: kCustomKernel [source       | next=005 (2)] fusion_2 grid: [64, 2, 1] threads: [128, 1, 1]  shared_memory: 16 bytes
    005: kWhile        [prev=004 (2) | next=008 (1)]       
condition:
        006: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
      body:
        007: kCustomKernel [source | sink] loop_add_fusion grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
    008: kCustomKernel [prev=005 (1) | sink        ] loop_add_fusion grid: [32, 1, 1] threads: [128, 1, 1]  shared_memory: 0 bytes
"""  # noqa: E501, W291

BLOCKS = """\
007: kConditional  [prev=001 (1) | sink        ]   
  branch_0:
    002: kWhile [source | sink]   
condition:
        003: kCopy [source | sink] kCopy
      body:
        004: kCopy [source | sink] kCopy
  branch_1:
    005: kCopy [source | sink] kCopy
000: kCommandBuffer [source | sink] 
    008: kCopy [source | sink] kCopy
    009: kCopy [source | sink] kCopy
010: kCublasLtMatmul [source | sink] kCublasLtMatmul
"""  # noqa: W291

METADATA = """\
thunk_metadata {
  thunk_info {
    profile_annotation: "loop_add_fusion.3"
    thunk_id: 4
  }
  thunk_kind: "kCustomKernel"
}
thunk_metadata {
  thunk_info {
    profile_annotation: "command_buffer_4"
  }
  thunk_kind: "kCommandBuffer"
}
thunk_metadata {
  thunk_info {
    profile_annotation: "while.19"
    thunk_id: 2
  }
  thunk_kind: "kWhile"
}
"""

HLO = """\
HloModule jit_loop, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%body.2 (parameter.1: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %constant_1 = s32[] constant(1)
  ROOT %pair = (s32[], /*index=1*/bf16[4,8]{1,0:S(1)}, pred[3]{0}) fusion(%parameter.1, %constant_1, /*index=2*/%x.1), kind=kLoop, calls=%fused (a: f32[])
}

ENTRY %main.3 (x.1: f32[4]) -> f32[4] {
  %while.13 = (s32[], f32[4096]{0}) while(%tuple.5), condition=%region_4.9, body=%region_0.8, backend_config={"known_trip_count":{"n":"7"},"known_init_step":{"init":"0","step":"1"}}
  %while.14 = (s32[]) while(%tuple.5), condition=%region_4.9, body=%region_0.8
  ROOT %copy.1 = u8[2,3]{1,0} copy(%while.13)
}
"""  # noqa: E501

LISTING = """\
	.headerflags	@"EF_CUDA_SM90"

//--------------------- .text.loop_add_fusion --------------------------
	.section	.text.loop_add_fusion,"ax",@progbits
loop_add_fusion:
.text.loop_add_fusion:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/               @P0 BRA `(.L_x_1) ;
        /*0020*/                   STG.E desc[UR4][R2.64], R5 ;
.L_x_1:
        /*0030*/                   EXIT ;
.L_x_2:
        /*0040*/                   BRA `(.L_x_2);
        /*0050*/                   NOP;
        /*0060*/                   NOP;
.L_x_9:

//--------------------- .text.fusion_2 --------------------------
	.section	.text.fusion_2,"ax",@progbits
fusion_2:
.text.fusion_2:
        /*0000*/                   MOV R1, RZ ;
.L_x_3:
        /*fff0*/                   IADD3 R1, R1, 0x1, RZ ;
        /*10000*/              @P1 BRA P2, `(.L_x_3) ;
        /*10010*/                  EXIT ;
"""


def copy(number: int) -> Thunk:
    return Thunk(number, "kCopy", "", 0, {})


def test_loops_are_read_with_their_threads_and_what_follows_an_inner_loop():
    assert gpu_program.read_thunks(LOOPS) == [
        copy(1),
        Thunk(
            *(2, "kWhile", "", 0),
            {
                "condition": [Thunk(3, "kCustomKernel", "wrapped_compare", 1, {})],
                "body": [
                    Thunk(4, "kCustomKernel", "fusion_2", 64 * 2 * 128, {}),
                    Thunk(
                        *(5, "kWhile", "", 0),
                        {
                            "condition": [Thunk(6, "kCustomKernel", "loop_compare_fusion", 1, {})],
                            "body": [Thunk(7, "kCustomKernel", "loop_add_fusion", 1, {})],
                        },
                    ),
                    Thunk(8, "kCustomKernel", "loop_add_fusion", 32 * 128, {}),
                ],
            },
        ),
    ]


def test_branches_and_blocks_without_named_parts_are_read():
    loop = Thunk(2, "kWhile", "", 0, {"condition": [copy(3)], "body": [copy(4)]})
    assert gpu_program.read_thunks(BLOCKS) == [
        Thunk(7, "kConditional", "", 0, {"branch_0": [loop], "branch_1": [copy(5)]}),
        Thunk(0, "kCommandBuffer", "", 0, {"": [copy(8), copy(9)]}),
        Thunk(10, "kCublasLtMatmul", "", 0, {}),
    ]


def test_an_unknown_line_of_the_thunks_is_an_error():
    with pytest.raises(RuntimeError, match="cannot read .* 'kCopy without a number'"):
        gpu_program.read_thunks("kCopy without a number")


def test_thunks_are_named_after_their_instructions():
    assert gpu_program.read_names(METADATA) == {4: "loop_add_fusion.3", 2: "while.19"}


def test_instructions_are_read_with_their_bytes_operands_and_rounds():
    assert gpu_program.read_instructions(HLO) == {
        "constant_1": Instruction([4], [], None),
        "pair": Instruction([4, 64, 3], ["parameter.1", "constant_1", "x.1"], None),
        "while.13": Instruction([4, 4 * 4096], ["tuple.5"], 7),
        "while.14": Instruction([4], ["tuple.5"], None),
        "copy.1": Instruction([6], ["while.13"], None),
    }


def test_machine_code_is_counted_without_padding_and_loops_are_found():
    assert gpu_program.read_code(LISTING) == {
        "loop_add_fusion": Code(instructions=5, has_loop=False),
        "fusion_2": Code(instructions=4, has_loop=True),
    }


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({}, "jax-cuda12-plugin is missing"),
        (
            {"jax-cuda12-plugin": "0.9", "jax-cuda12-pjrt": "0.8"},
            "jax-cuda12-pjrt must be 0.9, as jaxlib is, but it is 0.8",
        ),
        ({"jax-cuda12-plugin": "0.9", "jax-cuda12-pjrt": "0.9"}, "ptxas is missing"),
    ],
)
def test_a_compiler_that_is_missing_is_named_with_a_way_to_install_it(versions, words, monkeypatch):
    def version(package):
        if package not in {"jaxlib", *versions}:
            raise importlib.metadata.PackageNotFoundError(package)
        return {"jaxlib": "0.9", **versions}[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError) as caught:
        gpu_program.check_compiler()
    message = str(caught.value)
    assert message.startswith(f"{words}; ") and "--no-deps jax-cuda12-plugin==0.9 " in message


def test_the_versions_for_ci_go_together():
    lines = (ROOT / ".ci" / "gpu-budget.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in lines if not line.startswith("#"))
    same = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda12-pjrt")
    assert len({versions[package] for package in same}) == 1
    assert {"nvidia-cuda-nvcc-cu12", "nvidia-cuda-nvdisasm", *same} == set(versions)


@pytest.mark.parametrize(
    ("name", "teraflops", "clock"), [("h100", 66.9, 1.755), ("rtx4090", 82.6, 2.52)]
)
def test_the_targets_reach_the_peak_of_their_data_sheets(name, teraflops, clock):
    target = TARGETS[name]
    # In single precision, a multiply-add per cycle in each of a multiprocessor's 128 units.
    assert round(target.processors * 128 * 2 * target.highest_clock / 1e3, 1) == teraflops
    assert 0.89 < target.bandwidth / target.paper_bandwidth <= 0.9
    assert target.issue_rate == pytest.approx(target.processors * 128 * clock * 1e9)
