#!/usr/bin/env bash
# unet_dist VERSION: model_int8.onnx, SHA-256 0123456789abcdef...,
# for Ascend910B3 by CANN 9.1, whose set_env.sh must have been sourced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

python amct_convert.py

atc \
    --framework=5 \
    --model=./model_int8_01234567_deploy_model.onnx \
    --output=model_int8_Ascend910B3_1x3x256x256_DIGEST \
    --input_format=NCHW \
    --input_shape=image:1,3,256,256 \
    --soc_version=Ascend910B3 \
    --precision_mode_v2=mixed_float16 \
    --log=error

atc \
    --framework=5 \
    --model=./model_int8_01234567_deploy_model.onnx \
    --output=model_int8_Ascend910B3_4x3x512x512_DIGEST \
    --input_format=NCHW \
    --input_shape=image:4,3,512,512 \
    --soc_version=Ascend910B3 \
    --precision_mode_v2=mixed_float16 \
    --log=error
