//! Protobuf messages in gRPC frames, as tonic has them, but with buffers that fit.

use prost::Message;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstDecoder, ProstEncoder};

/// What each message begins with; a larger one has it grow. tonic's own 8 KiB are beyond what the C library keeps at hand
/// for each thread, and each call takes four of them: two here, two at its peer.
const BUFFER: usize = 1 << 10;
/// tonic's own: a stream's messages are sent together up to so many bytes.
const TOGETHER: usize = 32 << 10;

#[derive(Debug)]
pub(super) struct Codec<T, U>(std::marker::PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER, TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER, TOGETHER))
    }
}
