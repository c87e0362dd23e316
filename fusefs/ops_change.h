// What becomes of changes of the tree after they have been answered.
//
// Thread-safety:  any worker; settle_made_ahead() also the back end's own thread, and waits for
//                 nothing.
#pragma once

#include "fusefs/session_impl.h"

namespace fusefs {

// The last close of a file that was unlinked while it was open, where the remote knows it under
// another name since.
void remove_hidden(SessionImpl& session, FuseRequest& request, FileState& state);

// What the remote says of a file that programs were told is made (MadeAhead::Settle). Where it
// was refused its name goes again, and the log has it.
void settle_made_ahead(SessionImpl& session, const MadeAhead::File& file,
                       const MadeAhead::Answer& answer);

}  // namespace fusefs
